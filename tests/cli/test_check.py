"""`keepalivectl check`: says what settings mean before they are in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.cli.ctl import main
from keepaliveD.errors import Exit

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


def test_the_shipped_file_is_valid_and_raises_no_doubts(capsys: pytest.CaptureFixture[str]) -> None:
    """Who changes nothing is told nothing; the figures are those that its comments promise."""
    assert main(["check", str(SHIPPED)]) == Exit.OK
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"valid: {SHIPPED}",
        "",
        "keepalive           idle 180s, interval 20s, probes 31",
        "first probe         after 3min without a packet, 3min 22s at the latest",
        "last probe          after 13min, if nobody answers",
        "dead peer noticed   after 13min 20s",
        "outage survived     10min, by a connection that is idle",
        "probe traffic       1.1 packets/s, 0.6 kbit/s for 100 idle connections",
        "probe traffic       111.1 packets/s, 58.7 kbit/s for 10,000 idle connections",
        "",
        "path default  forgets after 4min (watch.default_timeout): 2 probes before that",
    ]


def test_every_path_is_told_with_its_origin_and_the_probes_that_fit(
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
        preset = "aws-nlb"
        [[path]]
        name = "cable"
        timeout = "infinity"
        """,
        capsys,
    )
    assert status == Exit.OK
    assert out[-4:] == [
        "path default          forgets after 4min (watch.default_timeout): 2 probes before that",
        f"path office firewall  forgets after 3min 25s (configured in {file}): 1 probe before that",
        "path cloud            forgets after 5min 50s (preset aws-nlb): 7 probes before that",
        f"path cable            forgets after infinity (configured in {file}): never",
    ]
    assert err == [
        'warning: path "office firewall": 1 of at least 2 probes leave before it forgets after 3min 25s; '
        "choose a shorter keepalive.idle or keepalive.interval"
    ]


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
        'warning: path "hasty": it forgets after 20s, but sockets are looked at only every 15s; '
        "a warning may come too late: choose a shorter watch.interval"
    ]


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
    monkeypatch.setattr("keepaliveD.config.DEFAULT_FILE", tmp_path / "config.toml")
    assert main(["check"]) == Exit.OK
    assert capsys.readouterr().out.startswith("valid: the built-in defaults\n")


def test_a_wrong_file_is_refused_a_line_for_each_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with the status of a configuration error, and nothing that looks like success."""
    status, out, err = check(file, "[keepalive]\nidle = 1\n[watch]\nfoo = 1\n", capsys)
    assert status == 78
    assert out == []
    assert [line.split(": ")[1:3] for line in err] == [[str(file), "keepalive.idle"], [str(file), "watch.foo"]]


def test_a_missing_file_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name must not check the defaults instead."""
    assert main(["check", str(file)]) == 66
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}: cannot be read: No such file or directory" in err
