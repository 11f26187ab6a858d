"""keepalivectl arm: who is meant by a command line, what is said, and with which status it leaves."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from keepaliveD.cli.arming import results
from keepaliveD.cli.ctl import main
from keepaliveD.model.arming import Access
from keepaliveD.model.errors import Unsupported
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from tests.cli.arming.desk import SINGLE, Desk
from tests.support.fakes import FakeArmer

NOT_PERMITTED = "2 connections not permitted: run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"


@pytest.mark.parametrize(
    ("target", "cookies"),
    [
        ("10.20.0.9:22", [1]),
        ("10.0.0.1:22", [2]),
        ("10.20.0.9:40002", [2]),
        ("[fd00::9]:22", [3]),
        ("[FD00:0:0::9]:22", [3]),
        ("127.0.0.1:22", [4]),
        ("77", [1, 2]),
        ("077", [1, 2]),
    ],
)
def test_a_target_is_a_process_or_either_end(desk: Desk, target: str, cookies: list[int]) -> None:
    """Whatever watch.ignore says; of these ports and addresses together, and established ones only."""
    assert desk.armed(target) == cookies


def test_a_host_may_be_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses that the name has."""
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("10.20.0.9", 0)), (10, 1, 6, "", ("fd00::9", 0, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert desk.armed("backup.example:22") == [1, 3]
    assert asked == ["backup.example"]


@pytest.mark.parametrize(
    ("pattern", "cookies"),
    [("ssh.service", [2]), ("ssh", [2]), ("amanda*", [1, 4]), ("amanda?backup.service", [1]), ("*.service", [1, 2, 4])],
)
def test_a_unit_may_be_a_pattern(desk: Desk, pattern: str, cookies: list[int]) -> None:
    assert desk.armed("--unit", pattern) == cookies


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["77", "--unit", "a"], "name TARGET or --unit, not both"),
        ([], "name TARGET (a process id, HOST:PORT or a cookie) or --unit"),
        (["sshd"], "sshd: neither a process id nor HOST:PORT, such as 10.20.0.9:22 or [fd00::9]:22"),
        (["10.20.0.9"], "10.20.0.9: neither a process id nor HOST:PORT"),
        (["10.20.0.9:"], "10.20.0.9:: neither a process id nor HOST:PORT"),
        ([":22"], ":22: neither a process id nor HOST:PORT, such as 10.20.0.9:22"),
        (["[]:22"], "[]:22: neither a process id nor HOST:PORT"),
        (["10.20.0.9:ssh"], "10.20.0.9:ssh: neither a process id nor HOST:PORT"),
        (["[fd00::9]"], "[fd00::9]: neither a process id nor HOST:PORT"),
        ([""], ": neither a process id nor HOST:PORT"),
        (
            ["77", "--idle", "3min", "--interval", "3min 1s"],
            "--interval 3min 1s is longer than --idle 3min; write --interval with at most 3min",
        ),
        (
            ["77", "--idle", "10s"],
            "keepalive.interval 20s is longer than --idle 10s; write --interval with at most 10s",
        ),
    ],
)
def test_a_target_that_is_none_is_one_line_and_status_64(desk: Desk, words: list[str], said: str) -> None:
    status, out, err = desk.types("arm", *words)
    assert (status, out) == (64, [])
    assert err[0].startswith(f"keepalivectl: {said}")
    assert desk.armer.looked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--idle", "180"], "argument --idle: '180' has no unit; write"),
        (["--idle", "Auto"], "argument --idle: 'Auto' is not a time span; write"),
        (["--idle", "0s"], "argument --idle: '0s' is out of range; write whole seconds from 1s to 32767s"),
        (["--idle", "10h"], "argument --idle: '10h' is out of range; write whole seconds from 1s to 32767s"),
        (["--interval", "auto"], "argument --interval: 'auto' is not a time span; write"),
        (["--interval", "1500ms"], "argument --interval: '1500ms' is out of range; write whole seconds"),
        (["--interval", "infinity"], "argument --interval: 'infinity' is out of range"),
        (["--probes", "0"], "argument --probes: '0' is out of range; write 1 to 127"),
        (["--probes", "128"], "argument --probes: '128' is out of range; write 1 to 127"),
        (["--probes", "-1"], "argument --probes: '-1' is out of range; write 1 to 127"),
        (["--probes", "many"], "argument --probes: 'many' is not a number; write 1 to 127"),
        (["--unit"], "argument --unit: expected one argument"),
        (["--at-risk"], "unrecognized arguments: --at-risk"),
        (["78"], "unrecognized arguments: 78"),
    ],
)
def test_an_option_that_is_wrong_is_one_line_and_status_64(desk: Desk, words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["arm", "77", *words])
    assert left.value.code == 64
    (line,) = desk.capsys.readouterr().err.splitlines()
    assert said in line
    assert line.endswith("--help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["4711"], "process 4711: does not exist"),
        (["78"], "process 78 has no established connection; keepalivectl sockets --all lists connections"),
        (["10.20.0.9:80"], "10.20.0.9:80 has no established connection; keepalivectl sockets --all lists"),
        (["--unit", "cron.service"], "unit cron.service has no established connection; keepalivectl sockets --all"),
        (["--unit", "aman"], "unit aman.service has no established connection; did you mean amanda@backup.service or"),
        (["no-such-host.invalid:22"], "no-such-host.invalid: cannot be resolved: "),
    ],
)
def test_who_is_not_there_is_one_line_and_status_66(desk: Desk, words: list[str], said: str) -> None:
    status, out, err = desk.types("arm", *words)
    assert (status, out) == (66, [])
    (line,) = err
    assert line.startswith(f"keepalivectl: {said}")


def test_the_process_that_is_not_there_is_asked_of_the_real_proc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pids end at 4194304 (pid_max, proc(5))."""
    if not os.path.exists("/proc/self/net/tcp"):
        pytest.skip("no /proc")
    assert main(["arm", "4194305", "--dry-run", "--config", str(tmp_path / "absent.toml")]) == 66
    assert "absent.toml: cannot be read" in capsys.readouterr().err
    (tmp_path / "config.toml").write_text("")
    status = main(["arm", "4194305", "--dry-run", "--config", str(tmp_path / "config.toml")])
    assert (status, capsys.readouterr().err) == (66, "keepalivectl: process 4194305: does not exist\n")


def test_what_was_armed_is_said_and_on_record(desk: Desk) -> None:
    status, out, err = desk.types("arm", "10.20.0.9:22")
    assert (status, err) == (0, [])
    assert out == [
        "program[71] (amanda@backup.service) 10.0.0.1:40001 -> 10.20.0.9:22: armed by hand: "
        "idle 3min 12s, interval 20s, probes 31 (before: off), "
        "because no packet was due, and path default forgets it in 3min 50s"
    ]
    assert sorted(desk.record.armed()) == [1]


@pytest.mark.parametrize(
    ("words", "times"),
    [
        ([], Keepalive(192, 20, 31)),
        (["--idle", "1min"], Keepalive(60, 20, 31)),
        (["--idle", "1min", "--interval", "5s", "--probes", "3"], Keepalive(60, 5, 3)),
        (["--idle", "auto"], Keepalive(192, 20, 31)),
    ],
)
def test_times_are_those_asked_for_or_the_configurations(desk: Desk, words: list[str], times: Keepalive) -> None:
    desk.armer.others = SINGLE
    desk.armed("10.20.0.9:22", *words)
    assert desk.armer.changed == [(1, SocketKeepalive(True, times))]


def test_an_interval_that_is_too_long_for_the_path_is_shortened_with_a_warning(desk: Desk) -> None:
    """It used to be cut without a word."""
    desk.armer.others = SINGLE
    status, _, (line,) = desk.types("arm", "10.20.0.9:22", "--interval", "2h")
    assert status == 0
    assert desk.armer.changed == [(1, SocketKeepalive(True, Keepalive(142, 70, 31)))]
    assert line == (
        "warning: --interval 2h is too long for path default, which forgets after 4min (guess: watch.default_timeout): "
        "used 1min 10s, so that 2 probes leave in time"
    )


def test_the_configuration_may_be_another(desk: Desk) -> None:
    desk.armer.others = SINGLE
    (desk.directory / "c.toml").write_text('[keepalive]\nidle = "90s"\ninterval = "9s"\nprobes = 4\n')
    desk.armed("10.20.0.9:22", "--config", str(desk.directory / "c.toml"))
    assert desk.armer.changed == [(1, SocketKeepalive(True, Keepalive(203, 9, 4)))]


def test_a_dry_run_says_what_it_would_and_touches_nothing(desk: Desk) -> None:
    status, out, err = desk.types("arm", "77", "--dry-run")
    assert (status, err, len(out)) == (0, [], 2)
    assert all(": would be armed by hand: idle 3min 12s" in line for line in out)
    assert not (desk.directory / "state").exists()


def test_what_was_not_permitted_is_said_and_status_77(desk: Desk) -> None:
    desk.armer.looks = Access.NOT_PERMITTED
    status, out, err = desk.types("arm", "77")
    assert (status, out) == (77, [])
    assert len(err) == 3
    assert err[-1] == f"keepalivectl: {NOT_PERMITTED}"


@pytest.mark.parametrize(
    ("armer", "words", "status", "said"),
    [
        (FakeArmer(changes=Access.FAILED), (), 71, "2 connections failed: the kernel refused"),
        (
            FakeArmer(looks=Access.SUBFLOW),
            (),
            69,
            '2 connections not armed: MPTCP subflow; requires watch.engine = "bpf"',
        ),
        (
            FakeArmer(unanswered=1),
            (),
            75,
            "2 connections left as before: keepalive probe unanswered; try again once the peer has answered",
        ),
        (FakeArmer(looks=Access.OWNER_NOT_FOUND), (), 66, "2 connections not armed: owner not found"),
        (
            FakeArmer(looks=Access.OWNER_NOT_VISIBLE),
            (),
            77,
            NOT_PERMITTED,
        ),
        (FakeArmer(), ("--idle", "1h"), 64, "2 connections not armed: too long for path"),
        (
            FakeArmer(user_timeouts=dict.fromkeys(range(9), 1)),
            (),
            64,
            "2 connections not armed: user timeout too short",
        ),
    ],
)
def test_where_nothing_was_armed_though_it_was_asked_for_the_status_says_why(
    desk: Desk, armer: FakeArmer, words: tuple[str, ...], status: int, said: str
) -> None:
    desk.armer = armer
    left, out, err = desk.types("arm", "77", *words)
    assert (left, out) == (status, [])
    assert len(err) == 3
    assert err[-1] == f"keepalivectl: {said}"


def test_by_default_the_times_suit_the_path(desk: Desk) -> None:
    """Also where it forgets sooner than the configured 180 s."""
    (desk.directory / "c.toml").write_text('[[path]]\nname = "near"\nnetworks = ["10.20.0.0/16"]\ntimeout = "90s"\n')
    desk.armed("10.20.0.9:22", "--config", str(desk.directory / "c.toml"))
    assert desk.armer.changed == [(1, SocketKeepalive(True, Keepalive(59, 20, 31)))]


def test_what_is_done_by_hand_is_in_the_journal_too(desk: Desk) -> None:
    """Who asks next week why a socket has keepalive finds it there, and by whom."""
    desk.types("arm", "10.20.0.9:22")
    desk.watcher.closed = 0
    desk.types("disarm")
    assert [entry.event for entry in desk.journal] == ["armed", "disarmed"]
    assert {entry.fields["KEEPALIVE_RULE"] for entry in desk.journal} == {"hand"}
    assert {entry.fields["KEEPALIVE_BY_UID"] for entry in desk.journal} <= {os.getuid(), results._who()}


def test_a_dry_run_is_not_in_the_journal(desk: Desk) -> None:
    desk.types("arm", "77", "--dry-run")
    assert desk.journal == []


def test_without_the_journal_it_is_done_all_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "open_journal", lambda: None)
    assert desk.types("arm", "10.20.0.9:22")[0] == 0


def test_arm_keeps_a_damaged_record_aside_and_says_so(desk: Desk) -> None:
    """It arms all the same, with a record of its own."""
    (desk.directory / "state").mkdir()
    (desk.directory / "state/armed").write_bytes(b"\x01" * 100)
    status, out, err = desk.types("arm", "77")
    assert (status, len(out)) == (0, 2)
    (line,) = err
    assert line.startswith(f"warning: {desk.directory}/state/armed.damaged: damaged arming record (kept aside)")


def test_where_it_cannot_be_done_at_all_is_one_line(desk: Desk) -> None:
    desk.armer.refusal = Unsupported(
        "sockets of other programs cannot be armed: pidfd_getfd requires Linux 5.6 or later"
    )
    status, out, err = desk.types("arm", "77")
    assert (status, out) == (69, [])
    assert err == [f"keepalivectl: {desk.armer.refusal}"]


@pytest.mark.parametrize(("pattern", "cookies"), [("*", [1, 2, 4]), ("?*", [1, 2, 4])])
def test_a_pattern_for_any_unit_does_not_mean_none(desk: Desk, pattern: str, cookies: list[int]) -> None:
    """A connection whose unit is not known may be anybody's."""
    assert desk.armed("--unit", pattern) == cookies


def test_an_empty_unit_is_nobody(desk: Desk) -> None:
    """--unit "$UNIT", where nobody has set UNIT, must not arm all that is in no unit."""
    status, _, _ = desk.types("arm", "--unit", "")
    assert (status, desk.armer.looked) == (66, [])


@pytest.mark.parametrize("target", ["fd00::9:22", "::1:22", "fe80::1%eth0:22"])
def test_an_ipv6_address_without_brackets_is_refused(desk: Desk, target: str) -> None:
    """Is the last group the port? Nobody can tell."""
    status, _, (line,) = desk.types("arm", target)
    assert (status, desk.armer.looked) == (64, [])
    host, _, port = target.rpartition(":")
    assert line == f"keepalivectl: {target}: is {port} the port? write [{host}]:{port} if so"


@pytest.mark.parametrize("target", ["10.20.0.9:0", "10.20.0.9:65536", "10.20.0.9:" + "9" * 5000])
def test_a_port_that_cannot_be_is_refused(desk: Desk, target: str) -> None:
    status, _, (line,) = desk.types("arm", target)
    assert status == 64
    assert line.endswith("is not a port; write 1 to 65535")


def test_a_process_id_without_end_is_one_line(desk: Desk) -> None:
    """Python refuses to read numbers of more than 4300 digits."""
    status, _, (line,) = desk.types("arm", "9" * 5000)
    assert (status, line[-16:]) == (66, ": does not exist")


@pytest.mark.parametrize("host", ["a..b", ".x", "é" * 70, "\udcff"])
def test_a_name_that_cannot_be_one_is_one_line(desk: Desk, host: str) -> None:
    """Before anybody is asked for its address."""
    status, _, (line,) = desk.types("arm", f"{host}:22")
    assert status == 66
    assert "cannot be resolved" in line


@pytest.mark.parametrize(
    ("target", "cookies"), [("[::ffff:10.20.0.9]:22", [1]), ("[fd00::9%eth0]:22", [3]), ("[fd00::9%3]:22", [3])]
)
def test_an_address_is_compared_as_it_is_shown(desk: Desk, target: str, cookies: list[int]) -> None:
    """IPv4 as IPv4, and without the interface."""
    assert desk.armed(target) == cookies


def test_an_address_that_a_name_stands_for_is_compared_so_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo(3) adds the interface to what is link-local."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(10, 1, 6, "", ("fd00::9%eth0", 0, 0, 3))])
    assert desk.armed("backup.example:22") == [3]


def test_without_a_record_nothing_is_touched(desk: Desk) -> None:
    (desk.directory / "state").write_text("")
    status, out, (line,) = desk.types("arm", "77")
    assert (status, out) == (74, [])
    assert line.endswith("no socket is touched without the arming record")
