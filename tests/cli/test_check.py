"""`keepalivectl check`: says what settings mean before they are in force."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from keepaliveD.cli import check as check_module
from keepaliveD.cli.asking import its_files, process, running
from keepaliveD.cli.ctl import main
from keepaliveD.model.errors import Exit

SHIPPED = Path(__file__).parent.parent.parent / "etc/tcp-keepalived/config.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def check(file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], list[str]]:
    """Status, lines on standard output, lines on standard error."""
    file.write_text(text)
    status = main(["check", str(file)])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err.splitlines()


def test_a_path_that_counts_only_data_is_said_to_be_beyond_help(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a rule that names it arms nothing there."""
    status, out, err = check(
        file,
        """
        [[path]]
        name = "proxy"
        networks = ["10.0.0.0/8"]
        preset = "envoy"
        [[arm]]
        path = "proxy"
        action = "enable"
        """,
        capsys,
    )
    assert status == Exit.OK
    assert "path proxy    forgets after 1h without data (preset envoy): keepalive does not help" in out
    assert err == [
        "warning: rule arm[1]: arms nothing on path proxy: it counts only data, so keepalive does not help there"
    ]


def test_in_a_cloud_the_default_timeout_is_that_of_the_platform(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
    (tmp_path / "sys/class/dmi/id/product_name").write_text("Google Compute Engine\n", encoding="ascii")
    assert main(["check", str(SHIPPED)], tmp_path) == Exit.OK
    out, err = capsys.readouterr()
    assert err == ""
    assert "path default  forgets after 10min (guess: Google Compute Engine): " in out


def test_the_shipped_file_is_valid_and_raises_no_doubts(capsys: pytest.CaptureFixture[str]) -> None:
    """Who changes nothing is told nothing; the figures are those that its comments promise."""
    assert main(["check", str(SHIPPED)]) == Exit.OK
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"valid: {SHIPPED}",
        "",
        "keepalive           idle 3min, interval 20s, probes 31",
        "first probe         after 3min without a packet, 3min 23s at the latest",
        "last probe          after 13min, if no probe is answered",
        "dead peer noticed   after 13min 20s",
        "outage survived     10min, by an idle connection",
        "probe traffic       1.1 packets/s, 0.6 kbit/s for 100 idle connections",
        "probe traffic       111.1 packets/s, 58.7 kbit/s for 10,000 idle connections",
        "",
        "path default  forgets after 4min (guess: watch.default_timeout): 2 probes before that",
        "",
        "rule keepalive.arm  restarts timers where keepalive is on (idle 3min, interval 20s, probes 31): "
        "all connections",
    ]


def test_every_path_is_reported_with_its_origin_and_the_probes_that_fit(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In columns, so that the odd one is seen."""
    status, out, err = check(
        file,
        """
        [[path]]
        name = "office firewall"
        timeout = "205s"
        [[path]]
        name = "cloud"
        networks = ["198.51.100.0/24"]
        preset = "aws-nlb"
        [[path]]
        name = "cable"
        interface = "eth1"
        timeout = "infinity"
        """,
        capsys,
    )
    assert status == Exit.OK
    assert out[-6:-2] == [
        "path default          forgets after 4min (guess: watch.default_timeout): 2 probes before that",
        f"path office firewall  forgets after 3min 25s (configured in {file}): 1 probe before that",
        "path cloud            forgets after 5min 50s (preset aws-nlb): 7 probes before that",
        f"path cable            never forgets (configured in {file})",
    ]
    assert err == [
        'warning: path "office firewall": only 1 of at least 2 probes can leave before it forgets after 3min 25s; '
        'write an [[arm]] entry for the path with action = "enable" and idle = "auto", '
        "or choose a shorter keepalive.idle or keepalive.interval"
    ]


def test_a_path_on_which_only_a_rule_sends_probes_in_time_is_said_to_have_one(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As why --fix writes them: the path is not as lost as the system's settings alone make it look."""
    text = '[[path]]\nname = "hasty"\nnetworks = ["10.0.0.0/8"]\ntimeout = "31s"\n[[arm]]\nprocess = "python3"\n'
    without = f"path hasty    forgets after 31s (configured in {file}): 0 probes before that by the settings above"
    _, out, err = check(file, text + 'action = "enable"\nidle = "auto"\n', capsys)
    assert f"{without}; a rule arms connections there in time" in out
    assert err == []
    _, out, _ = check(file, text + 'action = "enable"\nidle = "1min"\n', capsys)
    assert without.removesuffix(" by the settings above") in out


def test_a_path_that_is_more_hurried_than_the_watch_is_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Valid, and yet it will not do what it is meant to."""
    status, _, err = check(
        file,
        '[keepalive]\nidle = "5s"\ninterval = "2s"\n[[path]]\nname = "hasty"\ntimeout = "20s"\n',
        capsys,
    )
    assert status == Exit.OK
    assert err == [
        "warning: path hasty: forgets after 20s, but sockets are scanned only every 15s, "
        "so a warning may come too late; choose a shorter watch.interval"
    ]


TEN = "networks = ['10.0.0.0/8']\n"


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        (TEN, TEN, True),
        ("networks = ['192.0.2.0/24', '10.0.0.0/8']\n", TEN, True),
        (TEN + "ports = [22, 80]\n", TEN + "ports = [22]\n", True),
        ("", "", True),
        ("interface = 'eth1'\n", "interface = 'eth1'\n", True),
        (TEN, "networks = ['10.0.0.0/8', '192.0.2.0/24']\n", False),
        (TEN, TEN + "ports = [22]\n", False),
        (TEN + "ports = [22]\n", TEN, False),
        (TEN, "networks = ['10.1.0.0/16']\n", False),
        (TEN, TEN + "interface = 'eth1'\n", False),
        ("", TEN, False),
    ],
)
def test_a_path_that_no_connection_takes_is_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str], first: str, second: str, *, shadowed: bool
) -> None:
    """Its timeout would be believed to be in force."""
    path = "[[path]]\nname = '{}'\ntimeout = '1h'\n"
    status, _, err = check(file, path.format("one") + first + path.format("other") + second, capsys)
    assert status == Exit.OK
    assert err == shadowed * [
        "warning: path other: never matches, path one before it has the same selectors; "
        "remove one of the two, or give it other networks, ports or an interface"
    ]


def test_a_warning_time_that_a_path_does_not_allow_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
    [watch]
    warn_before = "10min"
    [[path]]
    name = "office"
    networks = ["10.0.0.0/8"]
    timeout = "15min"
    [[path]]
    name = "home"
    networks = ["192.168.0.0/16"]
    timeout = "1h"
    """
    status, _, err = check(file, text, capsys)
    assert (status, err) == (
        Exit.OK,
        [
            "warning: watch.warn_before: 10min is too long for 2 paths: a warning comes half of the idle timeout "
            "before at most, of path default (4min) 2min before; write at most 2min"
        ],
    )
    assert check(file, text.replace('"10min"', '"2min"'), capsys)[2] == []
    usual = check(file, text.replace('"10min"', '"60s"').replace("15min", "1min"), capsys)[2]
    assert not any("warn_before" in line for line in usual)


def test_a_unit_without_a_suffix_is_shown_with_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = check(file, "[[arm]]\naction = 'enable'\nunit = 'nightly-backup'\n", capsys)
    assert "unit nightly-backup.service" in rules(out)[0]


def test_settings_that_are_not_applied_are_said_to_be(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or one would believe the figures."""
    _, out, _ = check(file, "[keepalive]\napply = false\n", capsys)
    assert "not applied: keepalive.apply = false" in out[2]


def test_every_file_that_was_read_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A forgotten one in config.d explains most surprises."""
    (file.parent / "config.d").mkdir()
    (file.parent / "config.d/local.toml").write_text("")
    _, out, _ = check(file, "", capsys)
    assert out[0] == f"valid: {file}, {file.parent}/config.d/local.toml"


def test_without_any_file_the_defaults_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are a configuration as well."""
    monkeypatch.setattr("keepaliveD.config.files.DEFAULT_FILE", tmp_path / "config.toml")
    monkeypatch.setattr(its_files, "file_to_be_read", lambda _: None)  # as where it is installed
    assert main(["check"]) == Exit.OK
    assert capsys.readouterr().out.startswith("valid: the built-in defaults\n")


def test_a_wrong_file_is_refused_a_line_for_each_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with the status of a configuration error, and nothing that looks like success."""
    status, out, err = check(file, "[keepalive]\nidle = 1\n[watch]\nfoo = 1\n", capsys)
    assert status == 78
    assert out == []
    assert [line.split(": ")[1:3] for line in err] == [[f"{file}:2", "keepalive.idle"], [f"{file}:4", "watch.foo"]]


def test_a_file_that_hangs_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a file system whose server has died."""
    monkeypatch.setattr(check_module, "PATIENCE", 0.01)
    monkeypatch.setattr(check_module, "load", lambda _: threading.Event().wait())
    status, out, (line,) = check(file, "", capsys)
    assert (status, out) == (Exit.OSERR, [])
    said = "its process was ended, or does not answer within 0.01 s"
    assert line == f"keepalivectl: {file}: cannot be read: {said}"


def test_the_file_may_be_named_as_elsewhere(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("")
    assert main(["check", "--config", str(file)]) == Exit.OK
    assert f"valid: {file}" in capsys.readouterr().out
    assert main(["check", str(file), f"--config={file}"]) == Exit.USAGE
    assert capsys.readouterr().err == "keepalivectl: FILE and --config name one file each; name one of them\n"


def test_programs_read_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[keepalive]\nidle = '5s'\ninterval = '2s'\n[watch]\nignore = ['0.0.0.0/0']\n")
    assert main(["check", str(file), "--json"]) == Exit.OK
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["version"], told["valid"], told["files"], told["errors"], err) == (1, True, [str(file)], [], "")
    assert told["warnings"] == ["watch.ignore: 0.0.0.0/0 covers all IPv4 addresses, so no IPv4 connection is watched"]
    assert told["meaning"][0] == f"valid: {file}"
    file.write_text("[keepalive]\nidle = 5\nprobes = 0\n")
    assert main(["check", str(file), "--json"]) == Exit.CONFIG
    out, err = capsys.readouterr()
    wrong = json.loads(out)
    assert (wrong.keys(), err) == (told.keys(), "")
    assert (wrong["valid"], [line.split(": ")[1] for line in wrong["errors"]]) == (
        False,
        ["keepalive.idle", "keepalive.probes"],
    )
    assert main(["check", "/nonexistent", "--json"]) == Exit.NOINPUT
    assert json.loads(capsys.readouterr().out)["errors"][0].startswith("/nonexistent: cannot be read: ")


def test_a_missing_file_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name must not check the defaults instead."""
    assert main(["check", str(file)]) == 66
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}: cannot be read: No such file or directory" in err


# rules


def rules(lines: list[str]) -> list[str]:
    """What is said of rules, without the word that begins each line."""
    return [line.partition("rule ")[2] for line in lines if line.startswith(("rule ", "warning: rule "))]


def test_every_rule_is_reported_in_words_in_the_order_in_which_they_are_tried(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads them aloud notices what was not meant."""
    status, out, err = check(
        file,
        """
        [[arm]]
        action = "observe"
        unit = "sshd.service"
        [[arm]]
        action = "enable"
        unit = ["amanda*.service", "b c"]
        process = "amandad"
        container = "*"
        user = [0, 34]
        networks = ["10.20.0.0/16", "fd00::/8"]
        ports = [10080, 10081]
        path = "default"
        verdict = ["late", "bare"]
        idle = "auto"
        [[arm]]
        action = "rearm"
        user = 5
        idle = "100s"
        interval = "10s"
        probes = 7
        """,
        capsys,
    )
    assert (status, err) == (0, [])
    assert rules(out) == [
        "arm[1]         changes nothing: unit sshd.service",
        "arm[2]         switches keepalive on (idle auto, interval 20s, probes 31): "
        'unit "amanda*.service" or "b c.service", '
        'process amandad, container "*", user 0 or 34, peer in 10.20.0.0/16 or fd00::/8, port 10080 or 10081, '
        "path default, verdict late or bare; new connections are armed at the next scan",
        "arm[3]         restarts timers where keepalive is on (idle 1min 40s, interval 10s, probes 7): user 5",
        "keepalive.arm  restarts timers where keepalive is on (idle 3min, interval 20s, probes 31): all others",
    ]


def test_what_holds_where_nothing_is_applied_is_reported_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = check(file, "[keepalive]\napply = false\n", capsys)
    assert rules(out) == ["keepalive.arm  changes nothing: all connections"]


ENABLE = "[[arm]]\naction = 'enable'\n"
OFFICE = "[[path]]\nname = 'office'\nnetworks = ['10.0.0.0/8']\ntimeout = '300s'\n"
HASTY = "[[path]]\nname = 'hasty'\nnetworks = ['192.0.2.0/24']\ntimeout = '2s'\n[watch]\ninterval = '1s'\n"
CATCH_ALL = ENABLE + "verdict = ['bare', 'cut', 'late']\n"

DOUBTFUL = {
    "too late for a path": (
        OFFICE + ENABLE + "path = 'office'\nidle = '170s'\ninterval = '97s'\n",
        [
            "arm[1]: only 1 of at least 2 probes can leave before path office forgets after 5min; "
            'choose a shorter idle or interval, or idle = "auto"'
        ],
    ),
    "nothing to give": (
        "[keepalive]\napply = false\narm = 'enable'\n",
        [
            'keepalive.arm: "enable" has no effect, because keepalive.apply is false; '
            'write an [[arm]] entry with action = "enable"'
        ],
    ),
    "too late for every path": (
        OFFICE + "[keepalive]\napply = false\n" + ENABLE + "idle = '10min'\n",
        [
            "arm[1]: arms nothing: idle 10min, interval 20s is too long for each path, also for office, which forgets "
            'after 5min; choose a shorter idle or interval, or idle = "auto"'
        ],
    ),
    "the system's own times, where a rule writes them": (
        "[watch]\ndefault_timeout = '2min'\n" + ENABLE + "idle = '180s'\nunit = 'x'\n",
        [
            "arm[1]: arms nothing: idle 3min, interval 20s is too long for path default, which forgets after 2min; "
            'choose a shorter idle or interval, or idle = "auto"'
        ],
    ),
    "too late for one path of two": (
        OFFICE + "[keepalive]\napply = false\n" + ENABLE + "idle = '200s'\n",
        [
            "arm[1]: only 1 of at least 2 probes can leave before path default forgets after 4min; "
            'choose a shorter idle or interval, or idle = "auto"'
        ],
    ),
    "one probe": (
        ENABLE + "probes = 1\nuser = 5\n",
        [
            "arm[1]: only 1 of at least 2 probes can leave before path default forgets after 4min; "
            "write probes = 2 or more"
        ],
    ),
    "a path too hasty for auto": (
        HASTY + ENABLE + "idle = 'auto'\npath = 'h*'\n",
        [
            "arm[1]: only 1 of at least 2 probes can leave before path hasty forgets after 2s; "
            "no idle time in whole seconds is short enough"
        ],
    ),
    "longer than the system's": (
        "[watch]\ndefault_timeout = '1h'\n" + ENABLE + "idle = '181s'\n",
        [
            "arm[1]: idle 3min 1s is longer than keepalive.idle (3min), so it has no effect on sockets that use "
            "the system's settings; write at most that"
        ],
    ),
    "shadowed": (
        ENABLE + "user = 5\n" + CATCH_ALL + ENABLE + "path = 'nonsense'\nidle = '1h'\n" + ENABLE,
        [f"arm[{n}]: never matches, arm[2] takes everything; write it before that" for n in (3, 4)],
    ),
    "a path that nobody has configured": (
        OFFICE + ENABLE + "path = ['ofice', 'x*']\n",
        [
            "arm[1]: path ofice is not configured; did you mean office?",
            'arm[1]: path "x*" is not configured; known: default, office',
        ],
    ),
    "the same selectors": (
        "[[arm]]\naction = 'observe'\nunit = 'x'\n" + ENABLE + "unit = 'x'\nports = [22]\n",
        ["arm[2]: never matches, arm[1] takes the same connections; write it before that"],
    ),
    "the path of a program": (
        ENABLE + "process = '/usr/sbin/sshd'\n",
        [
            "arm[1]: process /usr/sbin/sshd never matches: it is a path, and a process name has none; write sshd",
        ],
    ),
    "a long process name": (
        ENABLE + "process = 'postgresql-server-main'\n",
        [
            "arm[1]: process postgresql-server-main never matches: a process name has at most 15 bytes; "
            "write postgresql-serv"
        ],
    ),
    "a long process name that is escaped": (  # of 15 bytes, and of 17
        ENABLE + r"process = ['\udcff\udcfe\x7f\x9b31m;\n78901', '\udcff\udcfe\x7f\x9b31m;\n7890123']" + "\n",
        [
            r'arm[1]: process "\\udcff\\udcfe\\x7f\\x9b31m;\\n7890123" never matches: a process name has at most '
            r'15 bytes; write "\\udcff\\udcfe\\x7f\\x9b31m;\\n78901"'
        ],
    ),
    "a timer": (
        ENABLE + "unit = 'amanda.timer'\n",
        ["arm[1]: unit amanda.timer never matches: a .timer unit has no processes; write amanda.service"],
    ),
    "a template": (
        ENABLE + "unit = 'amanda@'\n",
        [
            "arm[1]: unit amanda@.service never matches: a template has no processes, only its instances have; "
            'write "amanda@*.service"'
        ],
    ),
    "a mistyped suffix": (
        ENABLE + "unit = 'sshd.sevice'\n",
        ["arm[1]: unit sshd.sevice.service never matches: there are no .sevice units; did you mean sshd.service?"],
    ),
    "such a path, where nothing is touched": (
        "[[arm]]\naction = 'observe'\npath = 'defautl'\n",
        ["arm[1]: path defautl is not configured; did you mean default?"],
    ),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_rule_that_will_not_do_what_it_is_meant_to_is_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """Valid, so the status says nothing."""
    text, expected = DOUBTFUL[case]
    status, _, err = check(file, text, capsys)
    assert status == Exit.OK
    assert rules(err) == expected


@pytest.mark.parametrize(
    "text",
    [
        ENABLE,
        "[keepalive]\narm = 'enable'\n",
        "[keepalive]\napply = false\narm = 'rearm'\n",
        ENABLE + "idle = 'auto'\n",
        ENABLE + "process = ['postgresql-*-main', 'fifteen-letters', 'a/b']\n",
        ENABLE + "unit = ['backup.sh', 'amanda@x', 'a.path.service', 'session-3.scope', 'a*']\n",
        ENABLE + "unit = 'x'\n" + ENABLE + "unit = ['x', 'y']\n" + ENABLE + "ports = [22]\nunit = 'z'\n",
        ENABLE + "idle = 'auto'\ninterval = '1h'\n",
        ENABLE + "idle = '180s'\n",
        "[keepalive]\napply = false\n[watch]\ndefault_timeout = '1h'\n" + ENABLE + "idle = '200s'\n",
        "[watch]\ndefault_timeout = 'infinity'\n" + ENABLE + "probes = 1\nidle = '100s'\n",
        "[[arm]]\naction = 'observe'\nidle = '1h'\n",
        OFFICE + ENABLE + "path = ['off*', 'default']\n",
        ENABLE + "verdict = ['bare', 'cut']\n" + ENABLE + "container = '*'\n" + CATCH_ALL,
        HASTY + ENABLE + "networks = ['10.0.0.0/8']\nidle = '100s'\n",
    ],
)
def test_a_rule_that_does_raises_no_doubts(file: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """A warning for nothing is soon overlooked with the others."""
    _, _, err = check(file, text, capsys)
    assert rules(err) == []


def test_a_single_probe_is_a_warning_with_the_cure(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No shorter time would help."""
    _, _, err = check(file, "[keepalive]\nprobes = 1\nidle = '30s'\n", capsys)
    assert err == [
        "warning: path default: only 1 of at least 2 probes can leave before it forgets after 4min; "
        "write keepalive.probes = 2 or more"
    ]


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        ('path = "office"\naction = "enable"\nidle = "auto"', False),
        ('action = "enable"\nidle = "auto"', False),
        ('networks = ["192.0.2.0/24"]\naction = "enable"\nidle = "auto"', False),
        ('action = "enable"\nidle = "5s"\ninterval = "5s"', False),
        ('path = "other"\naction = "enable"\nidle = "auto"', True),
        ('networks = ["198.51.100.0/24"]\naction = "enable"\nidle = "auto"', True),
        ('networks = ["192.0.2.64/27"]\naction = "enable"\nidle = "auto"', False),
        ('unit = "amanda@backup.service"\naction = "enable"\nidle = "auto"', False),
        ('path = "office"\nverdict = "bare"\naction = "enable"\nidle = "auto"', False),
        ('path = "office"\naction = "enable"\nidle = "44s"', True),
        ('path = "office"\naction = "rearm"\nidle = "auto"', True),
        ('unit = "amanda*"\naction = "observe"\n[[arm]]\naction = "enable"\nidle = "auto"', False),
    ],
)
def test_a_path_on_which_a_rule_arms_in_time_is_no_warning(
    file: Path, capsys: pytest.CaptureFixture[str], rule: str, *, warned: bool
) -> None:
    """Also of some connections: who follows `keepalivectl why` writes one for a unit, and would be warned for ever."""
    office = '[[path]]\nname = "office"\nnetworks = ["192.0.2.0/25"]\ntimeout = "45s"\n'
    _, _, err = check(file, f"{office}[[arm]]\n{rule}\n", capsys)
    assert any(line.startswith("warning: path office: only 0 of") for line in err) == warned, err


def test_an_empty_list_that_matches_everything_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes it means nothing at all."""
    _, _, err = check(file, ENABLE + "unit = []\nports = []\n[watch]\nignore = []\n", capsys)
    assert err == [
        f"warning: {file}:{line}: arm[1].{key}: an empty list matches everything; leave it out, or name what to match"
        for line, key in ((4, "ports"), (3, "unit"))
    ]


def test_to_ignore_everything_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = check(file, "[watch]\nignore = ['0.0.0.0/0', '::1/128']\n", capsys)
    assert err == ["warning: watch.ignore: 0.0.0.0/0 covers all IPv4 addresses, so no IPv4 connection is watched"]


def test_a_file_in_config_d_that_is_not_read_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """systemd reads *.conf, and nothing else here says that these are not read."""
    (file.parent / "config.d").mkdir()
    for name in ("zz.conf", "README", ".swp", "a.toml~", "a.toml.dpkg-old"):
        (file.parent / "config.d" / name).write_text("")
    _, _, err = check(file, "", capsys)
    assert err == [
        f"warning: {file.parent}/config.d/zz.conf: is not read: its name does not end in .toml; rename or remove it"
    ]


def test_a_path_that_is_too_hasty_for_the_systems_times_is_reported_once(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not again for each rule that takes these."""
    _, _, err = check(file, "[[path]]\nname = 'a'\ntimeout = '205s'\n" + ENABLE + "user = 1\n" + ENABLE, capsys)
    assert len(err) == 1


PATHS = """
[[path]]
name = "p"
networks = ["10.9.0.0/16"]
timeout = "60s"
[[path]]
name = "lasting"
networks = ["10.8.0.0/16"]
timeout = "infinity"
"""


def test_a_rule_that_the_kernel_can_follow_at_connect_is_shown_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Networks, ports and cgroups are all that it knows then."""
    file = tmp_path / "config.toml"
    at_connect = "; new connections are armed at connect, if BPF is permitted"
    for selectors, said in (
        ("ports = [22]", f": port 22{at_connect}"),
        ('unit = "a.service"', f": unit a.service{at_connect} and a scan has seen the unit or container"),
        (
            'unit = "a.service"\nprocess = "a"',
            ": unit a.service, process a; new connections are armed at the next scan",
        ),
        ('path = "p"', f": path p{at_connect}"),
        ('path = "lasting"', ": path lasting; new connections are armed at the next scan"),
        (
            'unit = "a.service"\n[keepalive]\nsurvive_stop = true',
            ", so not those that start after the daemon stops",
        ),
        ('ports = [22]\n[watch]\nengine = "netlink"', ": port 22; new connections are armed at the next scan"),
        ('ports = [22]\n[watch]\nnamespaces = "own"', ": port 22; new connections are armed at the next scan"),
    ):
        _, out, _ = check(file, f'{PATHS}[[arm]]\naction = "enable"\n{selectors}\n', capsys)
        assert rules(out)[0].endswith(said)


def test_what_the_kernel_has_no_room_for_or_cannot_know_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    ports = ", ".join(map(str, range(1, 301)))
    many = f'[[arm]]\naction = "enable"\nports = [22]\n[[arm]]\naction = "enable"\nports = [{ports}]\n'
    _, out, _ = check(file, f'{PATHS}[[path]]\nname = "w"\ninterface = "wan"\ntimeout = "1min"\n{many}', capsys)
    first, second = rules(out)[:2]
    assert first.endswith("new connections are armed at connect, if BPF is permitted")
    assert second.endswith("; new connections are armed at the next scan")
    assert "new connections on path w are armed at the next scan: an interface selects it" in out
    assert any(line.startswith("new connections that rule arm[2] or a later one matches are armed at") for line in out)


@pytest.fixture
def daemons(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a daemon that runs."""
    file.write_text('[[path]]\nname = "office"\nnetworks = ["10.0.0.0/8"]\ntimeout = "10min"\n')
    monkeypatch.setattr(running, "running", lambda *_: 812)
    monkeypatch.setattr(process, "configuration", lambda *_: file)
    return file


def test_without_a_file_it_checks_what_the_running_daemon_reads(
    daemons: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has started it by script/run has another file than the one in /etc."""
    assert main(["check"]) == Exit.OK
    out, err = capsys.readouterr()
    assert out.startswith(f"valid: {daemons}\n")
    assert "path office " in out
    assert err == "note: this is the file of the running daemon (process 812); to check another, name it\n"
    assert main(["check", "--quiet"]) == Exit.OK
    assert capsys.readouterr() == ("", "")
    assert main(["check", str(SHIPPED)]) == Exit.OK
    out, err = capsys.readouterr()
    assert (out.startswith(f"valid: {SHIPPED}\n"), err) == (True, "")


@pytest.mark.parametrize("is_seen", [True, False])
def test_that_the_running_daemon_reads_another_file_is_said(
    daemons: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_seen: bool
) -> None:
    """Where it cannot be read, or, without root, cannot even be seen."""
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(process, "configuration", lambda *_: daemons if is_seen else None)
    main(["check"])
    (note,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("note: "))
    other = f"reads {daemons}; run as root to read it" if is_seen else "may read another file; run as root to see which"
    assert note.startswith("note: this follows ")
    assert note.endswith(f", but the daemon (process 812) {other}")


def test_without_a_daemon_a_clone_checks_the_file_that_its_daemon_will_read(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('[[path]]\nname = "office"\nnetworks = ["10.0.0.0/8"]\ntimeout = "10min"\n')
    monkeypatch.setattr(running, "running", lambda *_: 0)
    monkeypatch.setattr(its_files, "file_to_be_read", lambda _: file)
    assert main(["check"]) == Exit.OK
    out, err = capsys.readouterr()
    assert (out.startswith(f"valid: {file}\n"), "path office " in out) == (True, True)
    assert err == "note: this is the file that script/run reads; to check another, name it\n"
