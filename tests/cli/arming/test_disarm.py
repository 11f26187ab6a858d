"""keepalivectl disarm: what is put back, what is said, and with which status it leaves."""

from __future__ import annotations

import dataclasses

import pytest

from keepaliveD.cli import undo
from keepaliveD.config import files
from keepaliveD.model.errors import NotPermitted, Unsupported
from keepaliveD.model.results import Armed
from keepaliveD.model.sockets import Unwatched
from keepaliveD.records.settings import SettingsRecord, file_name
from tests.cli.arming.desk import ON, Desk
from tests.support.fakes import IDENTITY, OFF
from tests.support.tables import idle


def test_disarm_puts_back_what_a_damaged_record_still_says_and_ends_with_65(desk: Desk) -> None:
    """What it does not say cannot be put back."""
    desk.record.write({1: Armed(OFF, ON)})
    desk.armer.stands[1] = ON
    with open(desk.directory / "state/armed", "a") as file:
        file.write("4 0 7200 75 9 1 180 20 31 0 12345678\n")
    status, out, (line,) = desk.types("disarm")
    assert (status, len(out)) == (65, 1)
    assert line.startswith(f"keepalivectl: {desk.directory}/state/armed: damaged arming record (1 of its lines is ")


def test_disarm_does_not_take_a_damaged_record_for_an_empty_one(desk: Desk) -> None:
    """Nor one that a daemon has kept aside: what it named is armed still."""
    (desk.directory / "state").mkdir()
    (desk.directory / "state/armed").write_bytes(b"\xff\n" * 100)
    status, out, (line,) = desk.types("disarm")
    assert (status, out) == (65, [])
    assert line.startswith(f"keepalivectl: {desk.directory}/state/armed: damaged arming record (it has no heading")
    desk.record.set_aside()
    desk.watcher.closed = 0
    status, out, (line,) = desk.types("disarm")
    assert (status, out) == (65, [])
    assert line.startswith(f"keepalivectl: {desk.directory}/state/armed.damaged: damaged arming record (kept aside)")


def test_disarm_puts_back_what_is_on_record_and_says_so(desk: Desk) -> None:
    desk.record.write(dict.fromkeys((1, 4), Armed(OFF, ON)))
    desk.armer.stands = {1: ON, 4: ON}
    status, out, err = desk.types("disarm")
    assert (status, err) == (0, [])
    assert [line.partition(": ")[2] for line in out] == [
        "disarmed: off (before: idle 3min, interval 20s, probes 31)"
    ] * 2
    assert desk.record.armed() == {}


def test_disarm_names_no_path(desk: Desk) -> None:
    """It reads no configuration."""
    same = [idle(10.0, cookie=number, inode=1, cgroup=1, remote_port=number) for number in range(1, 8)]
    desk.watcher.sockets = lambda _: same
    desk.record.write(dict.fromkeys(range(1, 8), Armed(OFF, ON)))
    desk.armer.stands = dict.fromkeys(range(1, 8), ON)
    _, (line,), _ = desk.types("disarm")
    assert line.startswith("7 connections of amanda@backup.service: disarmed: off (before: ")
    assert "path" not in line


def test_of_what_cannot_be_read_it_is_said_that_it_was_not_found_and_the_status_is_75(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket on record may be in a namespace that this user may not enter, and is armed still."""
    really = desk.watcher.scan
    monkeypatch.setattr(
        desk.watcher, "scan", lambda now: dataclasses.replace(really(now), unwatched=Unwatched(forbidden=1))
    )
    desk.record.write(dict.fromkeys((1, 99), Armed(OFF, ON)))
    desk.armer.stands[1] = ON
    status, out, err = desk.types("disarm")
    assert (status, len(out)) == (75, 1)
    assert err == [
        "keepalivectl: 1 connection on record not found: ended since, or armed still where not all connections can be "
        "read; try again, as root"
    ]
    assert sorted(desk.record.armed()) == [99]


def test_where_nothing_is_armed_that_is_said(desk: Desk) -> None:
    """With the directory that was looked into: a daemon's may be another. Also where all that was armed has ended."""
    nothing = f"nothing to disarm: no armed socket is on record in {desk.directory}/state"
    desk.record.write({})
    assert desk.types("disarm") == (0, [nothing], [])
    desk.record.write({99: Armed(OFF, ON)})
    assert desk.types("disarm") == (0, ["nothing to disarm"], [])


def test_where_the_settings_record_is_damaged_it_is_said_that_no_socket_is_disarmed(desk: Desk) -> None:
    """What a socket took from the system would be guessed; once the file is gone, disarm does it all."""
    desk.record.write({1: Armed(OFF, ON)})
    desk.armer.stands[1] = ON
    found = desk.directory / "state" / file_name(IDENTITY)
    found.write_text("damaged")
    status, out, (line,) = desk.types("disarm")
    assert (status, out) == (65, [])
    assert f"{found}: damaged settings record" in line
    assert line.endswith("then remove the file; no socket is disarmed before that: disarm again then")
    assert sorted(desk.record.armed()) == [1]
    found.unlink()
    desk.watcher.closed = 0
    status, (line,), err = desk.types("disarm")
    assert (status, err) == (0, [])
    assert "disarmed: off" in line


def test_a_wrong_configuration_does_not_keep_anybody_from_disarming(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the very reason to."""
    (desk.directory / "config.toml").write_text("[keepalive")
    monkeypatch.setattr(files, "DEFAULT_FILE", desk.directory / "config.toml")
    desk.record.write({1: Armed(OFF, ON)})
    status, out, err = desk.types("disarm")
    assert (status, len(out), err) == (0, 1, [])
    assert desk.record.armed() == {}


def test_disarm_knows_what_was_armed_at_connect(desk: Desk) -> None:
    desk.at_connect.records[1] = Armed(OFF, ON)
    status, out, err = desk.types("disarm")
    assert (status, len(out), err) == (0, 1, [])
    assert (desk.at_connect.records, desk.record.armed()) == ({}, {})


def test_disarm_says_what_it_removed_and_disarms_what_it_knows_where_records_of_bpf_cannot_be_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CAP_BPF, say."""

    def refuse() -> None:
        raise NotPermitted("/armed: requires CAP_BPF")

    monkeypatch.setattr(desk.at_connect, "armed", refuse)
    desk.at_connect.pin = "/pin"
    desk.record.write({1: Armed(OFF, ON)})
    desk.armer.others = ON
    status, out, err = desk.types("disarm")
    assert status == 77
    assert out[0] == "removed /pin; new connections are no longer armed"
    assert "disarmed" in out[1]
    assert err == ["keepalivectl: sockets that were armed at connect may stay armed: /armed: requires CAP_BPF"]
    assert desk.record.armed() == {}


@pytest.mark.parametrize("words", [("disarm",), ("undo", "all")])
def test_where_a_pin_cannot_be_removed_what_is_on_record_is_disarmed_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(undo, "detect", desk.platform)
    desk.at_connect.pin = "/pin"
    desk.at_connect.stuck = NotPermitted("/pin: cannot be removed, and still arms new connections")
    desk.at_connect.records = {2: Armed(OFF, ON)}
    desk.record.write({1: Armed(OFF, ON)})
    desk.armer.others = ON
    status, out, err = desk.types(*words)
    assert (status, err) == (77, ["keepalivectl: /pin: cannot be removed, and still arms new connections"])
    assert [line for line in out if line.startswith("removed")] == []
    assert sorted(cookie for cookie, _ in desk.armer.changed) == [1, 2]
    assert desk.record.armed() == {}


def test_where_a_pin_cannot_be_removed_there_is_something_to_disarm(desk: Desk) -> None:
    desk.at_connect.pin = "/pin"
    desk.at_connect.stuck = NotPermitted("/pin: cannot be removed, and still arms new connections")
    assert desk.types("disarm") == (
        77,
        [],
        ["keepalivectl: /pin: cannot be removed, and still arms new connections"],
    )


def test_all_that_was_not_done_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of it with the status."""

    def refuse() -> None:
        raise Unsupported("/armed: cannot be read: Read-only file system")

    monkeypatch.setattr(desk.at_connect, "armed", refuse)
    desk.at_connect.pin = "/pin"
    desk.at_connect.stuck = NotPermitted("/pin: cannot be removed, and still arms new connections")
    status, _, err = desk.types("disarm")
    assert (status, err) == (
        77,
        [
            "warning: sockets that were armed at connect may stay armed: /armed: cannot be read: Read-only file system",
            "keepalivectl: /pin: cannot be removed, and still arms new connections",
        ],
    )


def test_disarm_ends_a_program_that_has_outlived_its_daemon(desk: Desk) -> None:
    desk.at_connect.pin = "/pin"
    assert desk.types("disarm")[1] == ["removed /pin; new connections are no longer armed"]
    assert desk.at_connect.pin == ""


def test_disarm_beside_a_daemon_says_that_the_daemon_goes_on(desk: Desk) -> None:
    """It ends nothing of that daemon's: the program would end with it, and not survive its stop."""
    desk.at_connect.pin = "/pin"
    with SettingsRecord(desk.directory / "state", IDENTITY, {}).locked():
        _, out, (line,) = desk.types("disarm")
    assert out[0].startswith("nothing to disarm: ")
    assert line.startswith("note: tcp-keepalived is running: it may arm connections; to prevent that, stop it, or")
    assert desk.at_connect.pin == "/pin"
