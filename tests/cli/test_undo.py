"""keepalivectl undo: what is restored, what is said, and what a running daemon has to do with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from keepaliveD.cli import restore
from keepaliveD.cli import undo as command
from keepaliveD.cli.arming import disarm
from keepaliveD.cli.asking import orders, process, running
from keepaliveD.cli.ctl import main
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.undo import redo
from keepaliveD.model.actions import Disarm, Outcome
from keepaliveD.model.connections import Endpoint, Owner
from keepaliveD.model.errors import Exit, KernelError, NotPermitted
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult, Mark
from keepaliveD.platforms.base import Platform
from keepaliveD.records.settings import SettingsRecord
from tests.cli.arming.conftest import desk
from tests.cli.arming.desk import SOCKETS, Desk
from tests.support.fakes import IDENTITY, OFF, FakeTuner
from tests.support.samples import BARE
from tests.support.tables import idle
from tests.support.unwritable import GONE, LEAVES, UNWRITABLE, printing_in_vain

__all__ = ["desk"]

ON = SocketKeepalive(True, Keepalive(180, 20, 31))
ARMED = Armed(OFF, ON)
SETTING = "time"  # as the kernel of the tests calls it
DAEMON = 812


@pytest.fixture
def tuner(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> FakeTuner:
    """A system whose settings are ours, as the record says, and a desk from which they can be reached."""
    tuner = FakeTuner()
    record = SettingsRecord(desk.directory / "state", IDENTITY, tuner.ranges)
    found = dict(tuner.read())
    with record.locked():
        record.record_found(found, dict.fromkeys(found, 42))
    tuner.values.update(dict.fromkeys(found, 42))

    def platform(*_: object, **__: object) -> Platform:
        return dataclasses.replace(desk.platform(), tuner=tuner)

    monkeypatch.setattr(command, "detect", platform)
    monkeypatch.setattr(disarm, "detect", platform)
    monkeypatch.setattr(restore, "detect", platform)
    return tuner


def daemon(monkeypatch: pytest.MonkeyPatch, desk: Desk, configuration: str) -> None:
    """A daemon runs beside it, with this configuration."""
    file = desk.directory / "config.toml"
    file.write_text(configuration)
    monkeypatch.setattr(running, "running", lambda *_: DAEMON)
    monkeypatch.setattr(process, "configuration", lambda *_: file)


def arm(desk: Desk, *cookies: int) -> None:
    """These sockets are armed, and on record."""
    desk.record.write(dict.fromkeys(cookies, ARMED))
    desk.armer.stands.update(dict.fromkeys(cookies, ON))


# sockets


@pytest.mark.parametrize(
    ("target", "cookies"),
    [
        ("amanda*", [1]),
        ("ssh", [2]),
        ("10.20.0.9:22", [1]),
        ("10.20.0.9", [1, 2]),
        ("77", [1, 2]),
        ("sk:3", [3]),
        ("all", [1, 2, 3]),
    ],
)
def test_only_what_is_named_is_disarmed(desk: Desk, tuner: FakeTuner, target: str, cookies: list[int]) -> None:
    arm(desk, 1, 2, 3)
    status, _, _ = desk.types("undo", target)
    assert status == 0
    assert sorted(cookie for cookie, _ in desk.armer.changed) == cookies
    assert sorted(desk.record.armed()) == sorted({1, 2, 3} - set(cookies))
    assert desk.record.left_alone() == set(cookies)
    assert (tuner.read()[SETTING] == 42) == (target != "all")


@UNWRITABLE
@pytest.mark.parametrize("words", [("undo", "all"), ("disarm",)])
def test_all_is_undone_whatever_becomes_of_what_is_printed(
    desk: Desk,
    tuner: FakeTuner,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    unwritable: str,
) -> None:
    """Such as `keepalivectl undo all | head -1`: settings come first, then what arms at connect, then sockets."""
    arm(desk, 1, 2, 3)
    desk.at_connect.pin = "/pin"
    with printing_in_vain(monkeypatch, unwritable):
        status, _, err = desk.types(*words)
    assert (status, err) == LEAVES[unwritable]
    assert sorted(cookie for cookie, _ in desk.armer.changed) == [1, 2, 3]
    assert (desk.record.armed(), desk.at_connect.pin) == ({}, "")
    assert (tuner.read()[SETTING] == 42) == (words == ("disarm",))


def test_all_is_undone_where_standard_error_has_no_reader_either(
    desk: Desk, tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as `keepalivectl undo all 2>&1 | head -1`: what was changed by others is a warning."""
    del tuner
    arm(desk, 1, 2, 9)
    desk.armer.stands[1] = OFF
    with printing_in_vain(monkeypatch, GONE), printing_in_vain(monkeypatch, GONE, "stderr"):
        assert main(["undo", "all", f"--state-dir={desk.directory}/state"]) == 0
    assert [cookie for cookie, _ in desk.armer.changed] == [2]


def test_what_was_undone_is_said_with_the_command_that_does_it_again(desk: Desk, tuner: FakeTuner) -> None:
    del tuner
    arm(desk, 1)
    status, out, err = desk.types("undo", "10.20.0.9:22")
    assert (status, err) == (0, [])
    disarmed, again = out
    assert disarmed.startswith("program[71] (amanda@backup.service) 10.0.0.1:40001 -> 10.20.0.9:22: disarmed: off")
    assert again == "redo: keepalivectl arm 10.0.0.1:40001 --idle 180s --interval 20s --probes 31"
    desk.watcher.closed = 0
    assert desk.types(*again.removeprefix("redo: keepalivectl ").split())[0] == 0
    assert sorted(desk.record.armed()) == [1]


@pytest.mark.parametrize("ignored", [False, True])
def test_arming_again_is_not_offered_for_connections_that_are_cut(
    desk: Desk, tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch, *, ignored: bool
) -> None:
    """It would keep none of them alive; those of others of the same unit are. What is not watched is never cut."""
    del tuner
    daemon(monkeypatch, desk, '[watch]\nignore = ["10.20.0.0/16"]\n' if ignored else "")
    desk.watcher.sockets = lambda _: [{**SOCKETS[0], **idle(300.0)}, {**SOCKETS[1], **idle(301.0)}, SOCKETS[2]]
    arm(desk, 1, 2, 3)
    status, out, _ = desk.types("undo", "program")
    assert (status, sorted(cookie for cookie, _ in desk.armer.changed)) == (0, [1, 2, 3])
    offered = [line.split()[3] for line in out if line.startswith("redo: keepalivectl arm")]
    left = [line for line in out if line.startswith("no redo")]
    if ignored:
        assert (offered, left) == (["10.0.0.1:40001", "10.20.0.9:40002", "[fd00::1]:40003"], [])
        return
    assert offered == ["[fd00::1]:40003"]
    assert left == ["no redo for 2 connections that are cut: their paths have presumably forgotten them"]


def test_the_rule_that_arms_it_again_is_named_with_its_place(
    desk: Desk, tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `why --fix` has written it; not those of others or for others' peers, nor those that arm nothing."""
    del tuner
    others = ('unit = "ssh"', "ports = [5432]", 'networks = ["192.0.2.0/24"]', 'user = ["1234"]')
    daemon(monkeypatch, desk, "".join(f'[[arm]]\naction = "enable"\n{each}\n' for each in others))
    (desk.directory / "config.d").mkdir()
    file = desk.directory / "config.d/00-why-amanda@backup.service.toml"
    rule = '[[arm]]\nunit = "amanda@backup.service"\nports = [22]\naction = "enable"\nidle = "auto"\n'
    file.write_text(f"# of why\n{rule}")
    arm(desk, 1)
    _, out, _ = desk.types("undo", "10.20.0.9:22")
    (named,) = [line for line in out if "this rule" in line]
    assert named == (
        f"{file}:2: this rule may arm their later connections; to prevent that, remove it, then "
        "systemctl reload tcp-keepalived"
    )


@pytest.mark.parametrize(
    ("words", "events"), [(("undo", "all"), ["disarmed", "restored"]), (("restore",), ["restored"])]
)
def test_it_is_in_the_journal_with_the_user(
    desk: Desk, tuner: FakeTuner, words: tuple[str, ...], events: list[str]
) -> None:
    del tuner
    arm(desk, 1)
    desk.types(*words)
    assert sorted({entry.event for entry in desk.journal}) == events
    assert all("KEEPALIVE_BY_UID" in entry.fields for entry in desk.journal)


@pytest.mark.parametrize(
    ("words", "nothing"),
    [
        (("undo", "all"), "nothing to undo in this network namespace; run keepalivectl undo all in the one of {}"),
        (("restore",), "nothing to restore in this network namespace; run keepalivectl restore in the one of {}"),
    ],
)
def test_what_only_another_namespace_can_restore_is_named_with_what_to_do_if_it_is_gone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], nothing: str
) -> None:
    monkeypatch.setattr(command, "detect", desk.platform)
    monkeypatch.setattr(restore, "detect", lambda *_: desk.platform())
    other = SettingsRecord(desk.directory / "state", {**IDENTITY, "netns": "net:[2]"}, FakeTuner().ranges)
    with other.locked():
        other.record_found({SETTING: 7200}, {SETTING: 42})
    (file,) = (desk.directory / "state").glob("found*.json")
    said = f"{nothing.format(file)}, or remove it if that namespace no longer exists"
    assert desk.types(*words) == (0, [said], [])


def test_what_is_armed_no_more_is_nothing_to_undo(desk: Desk, tuner: FakeTuner) -> None:
    del tuner
    desk.record.write({1: Mark.LEFT_ALONE})
    assert desk.types("undo", "10.20.0.9:22") == (
        0,
        ["nothing to undo: no connection of 10.20.0.9:22 is armed"],
        [],
    )
    assert desk.armer.changed == []


def test_what_is_not_there_is_one_line_and_status_66(desk: Desk, tuner: FakeTuner) -> None:
    del tuner
    status, out, (line,) = desk.types("undo", "cron")
    assert (status, out) == (66, [])
    assert line.startswith("keepalivectl: cron has no connection; keepalivectl sockets --all lists connections; ")
    assert "; of settings, name one of all, time (keepalive.idle), " in line


def test_what_arms_new_connections_stays_unless_all_is_undone(desk: Desk, tuner: FakeTuner) -> None:
    """A part that was undone is said to be armed again at the next connect."""
    del tuner
    arm(desk, 1, 2)
    desk.at_connect.pin = "/sys/fs/bpf/tcp-keepalived/connect"
    _, out, _ = desk.types("undo", "10.20.0.9:22")
    assert desk.at_connect.pin
    assert out[-1] == (
        f"{desk.at_connect.pin} still arms new connections without a daemon; keepalivectl undo all removes it"
    )
    desk.watcher.closed = 0
    _, out, _ = desk.types("undo", "all")
    assert not desk.at_connect.pin
    assert any("new connections are no longer armed" in line for line in out)


def test_both_ends_of_a_connection_get_back_the_times_that_each_had(desk: Desk) -> None:
    """Both are named by the same end, so their cookies tell them apart."""
    ends = [dataclasses.replace(BARE, cookie=cookie, owner=Owner(cookie)) for cookie in (0xA1, 0xA2)]
    ends[1] = dataclasses.replace(ends[1], local=BARE.remote, remote=BARE.local)
    more = ARMED._replace(after=SocketKeepalive(True, Keepalive(180, 20, 121)))
    outcome = Outcome(Disarm(tuple(ends)), armings=(Arming(tuple(ends), ArmingResult.DISARMED, ON, OFF),))
    assert list(redo(outcome, {0xA1: ARMED, 0xA2: more})) == [
        "redo: keepalivectl arm sk:a1 --idle 180s --interval 20s --probes 31",
        "redo: keepalivectl arm sk:a2 --idle 180s --interval 20s --probes 121",
    ]
    assert desk.types("arm", "sk:1", "--idle", "180s")[0] == 0
    assert [cookie for cookie, _ in desk.armer.changed] == [1]


def test_many_of_a_unit_are_armed_again_by_one_command() -> None:
    """A unit's name is a word for the shell, whatever is in it."""
    owner = Owner(7, "amandad", r"a\x20b.service")
    some = [dataclasses.replace(BARE, cookie=cookie, owner=owner) for cookie in range(3)]
    others = [
        dataclasses.replace(BARE, cookie=10 + number, owner=Owner(8), local=Endpoint("fd00::1", 50000 + number))
        for number in range(20)
    ]
    every = (*some, *others)
    outcome = Outcome(Disarm(every), armings=(Arming(every, ArmingResult.DISARMED, ON, OFF),))
    lines = list(redo(outcome, dict.fromkeys([one.cookie for one in every], ARMED)))
    times = "--idle 180s --interval 20s --probes 31"
    assert lines[:2] == [
        rf"redo: keepalivectl arm --unit 'a\x20b.service' {times}",
        f"redo: keepalivectl arm [fd00::1]:50000 {times}",
    ]
    assert lines[-1] == "redo: and 13 others"


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("al", "all"),
        ("ALL", "all"),
        ("intvvl", "intvl"),
        ("keepalive.idel", "keepalive.idle"),
        ("amnda", "amanda.service"),
        ("xyz", ""),
    ],
)
@pytest.mark.usefixtures("tuner")
def test_a_mistyped_target_names_the_settings_that_there_are(
    desk: Desk, target: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is said beside a daemon about what was not done."""
    daemon(monkeypatch, desk, "")
    arm(desk, 1)
    status, _, (said,) = desk.types("undo", target)
    assert status == Exit.NOINPUT
    assert "all, time (keepalive.idle), intvl (keepalive.interval), probes (keepalive.probes)" in said
    assert said.endswith(f"; did you mean {meant}?") == bool(meant)
    assert ("did you mean" in said) == bool(meant)


@pytest.mark.parametrize("target", ["10.20.0.9:99", "sk:99", "99"])
@pytest.mark.usefixtures("tuner")
def test_who_names_a_connection_reads_nothing_of_settings(desk: Desk, target: str) -> None:
    status, _, (said,) = desk.types("undo", target)
    assert status == Exit.NOINPUT
    assert "keepalive.idle" not in said


@pytest.mark.usefixtures("tuner")
def test_beside_a_daemon_nothing_is_noted_where_nothing_is_disarmed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon(monkeypatch, desk, "")
    assert desk.types("undo", "ssh")[2] == []


# settings


@pytest.mark.parametrize("name", [SETTING, "keepalive.idle"])
def test_one_setting_is_restored_and_the_others_stay(desk: Desk, tuner: FakeTuner, name: str) -> None:
    status, out, err = desk.types("undo", name)
    assert (status, err) == (0, [])
    assert out == [
        f"{SETTING}: found 42, restored to 7200",
        f"redo: {how_to_start(Path('/'))}, which sets it again",
    ]
    stands = dict(tuner.read())
    assert stands.pop(SETTING) == 7200
    assert set(stands.values()) == {42}
    record = SettingsRecord(desk.directory / "state", IDENTITY, tuner.ranges)
    assert SETTING not in record.due_back({**stands, SETTING: 42}).values
    assert record.due_back(tuner.read()).values.keys() == stands.keys()


def test_a_setting_that_is_as_it_was_found_is_nothing_to_undo(desk: Desk, tuner: FakeTuner) -> None:
    desk.types("undo", SETTING)
    assert desk.types("undo", SETTING) == (0, [f"nothing to undo: {SETTING} has the value that was found there"], [])
    assert tuner.read()[SETTING] == 7200


def test_a_setting_that_somebody_else_has_changed_since_stays(desk: Desk, tuner: FakeTuner) -> None:
    tuner.values[SETTING] = 600
    status, out, _ = desk.types("undo", SETTING)
    assert status == 0
    assert out[0] == f"{SETTING}: not restored: changed to 600 by someone else"
    assert tuner.read()[SETTING] == 600


def test_what_a_daemon_would_set_again_is_not_restored(
    desk: Desk, tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it does; and what is told instead is what restores it."""
    daemon(monkeypatch, desk, "")
    arm(desk, 1)
    status, out, (line,) = desk.types("undo", SETTING)
    assert (status, out) == (75, [])
    assert line == (
        f"keepalivectl: {SETTING}: not restored: tcp-keepalived (process {DAEMON}) would set it again at its next scan "
        '(keepalive.on_drift = "reapply"), and cannot be asked not to; write keepalive.idle = "7200s" into its '
        "configuration and type systemctl reload tcp-keepalived, or type systemctl stop tcp-keepalived"
    )
    status, out, (line,) = desk.types("undo", "all")
    assert (status, out) == (75, [])
    assert "write keepalive.apply = false into its configuration" in line
    assert line.endswith("; keepalivectl disarm restores the sockets alone")
    assert set(tuner.read().values()) == {42}
    assert sorted(desk.record.armed()) == [1]


@pytest.mark.parametrize("drift", ["yield", "warn"])
def test_what_a_daemon_leaves_is_restored_with_its_record_untouched(
    desk: Desk, tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch, drift: str
) -> None:
    daemon(monkeypatch, desk, f'[keepalive]\non_drift = "{drift}"\n')
    files = {file: file.read_bytes() for file in (desk.directory / "state").iterdir()}
    status, out, err = desk.types("undo", SETTING)
    assert (status, err) == (0, [])
    assert out == [
        f"{SETTING}: found 42, restored to 7200",
        f'the daemon leaves what was restored until its next reload or start (keepalive.on_drift = "{drift}"); '
        "redo: systemctl reload tcp-keepalived",
    ]
    assert tuner.read()[SETTING] == 7200
    assert {file: file.read_bytes() for file in (desk.directory / "state").iterdir()} == files


@pytest.fixture
def read_only(tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting can be written, as with a read-only /proc/sys."""

    def refuse(*_: object) -> int:
        raise NotPermitted("time: cannot be set: Read-only file system")

    monkeypatch.setattr(tuner, "exchange", refuse)


@pytest.mark.usefixtures("read_only")
def test_sockets_are_disarmed_also_where_settings_cannot_be_restored(desk: Desk) -> None:
    """The refusal comes last, with its own status."""
    arm(desk, 1)
    status, out, err = desk.types("undo", "all")
    assert sorted(desk.record.armed()) == []
    assert any("disarmed: off" in line for line in out)
    assert (status, err) == (77, ["keepalivectl: time: cannot be set: Read-only file system"])


@pytest.mark.usefixtures("read_only")
def test_where_sockets_cannot_be_disarmed_either_both_are_said(desk: Desk) -> None:
    """With the status of the first."""
    arm(desk, 1)
    desk.watcher.refusal = KernelError("sock_diag: no")
    status, _, err = desk.types("undo", "all")
    assert (status, err) == (
        77,
        ["keepalivectl: time: cannot be set: Read-only file system", "keepalivectl: sock_diag: no"],
    )


@pytest.mark.parametrize(("sent", "status"), [({"status": 77}, 77), ({}, 71)])
def test_what_a_daemon_was_refused_has_the_status_that_it_has_without_one(
    desk: Desk, tuner: FakeTuner, monkeypatch: pytest.MonkeyPatch, sent: dict[str, int], status: int
) -> None:
    """As far as it says: an older daemon does not."""
    del tuner
    daemon(monkeypatch, desk, "")
    answer = {"restored": [], "messages": ["time: found 180, restored to 7200"], "refused": "no", **sent}
    monkeypatch.setattr(orders, "control_of", lambda *_: Path("/run/control"))
    monkeypatch.setattr(command, "ask", lambda *_: answer)
    arm(desk, 1)
    left, _, err = desk.types("undo", "all")
    assert (left, err[-1]) == (status, "keepalivectl: no")
    assert sorted(desk.record.armed()) == []


def test_a_damaged_record_is_one_line_and_nothing_is_undone(desk: Desk, tuner: FakeTuner) -> None:
    arm(desk, 1)
    (file,) = (desk.directory / "state").glob("found*")
    file.write_text("{")
    status, out, (line,) = desk.types("undo", "all")
    assert (status, out) == (65, [])
    assert "damaged settings record" in line
    assert set(tuner.read().values()) == {42}
    assert sorted(desk.record.armed()) == [1]


def test_without_a_state_directory_there_is_nothing(desk: Desk, tmp_path: Path) -> None:
    status, out, (line,) = desk.types("undo", "all")
    assert (status, out) == (66, [])
    assert line == f"keepalivectl: {tmp_path}/state: does not exist; name the --state-dir of the daemon"
