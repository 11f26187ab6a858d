"""The daemon's life, step by step."""

import dataclasses
import errno
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from keepaliveD.config import load
from keepaliveD.daemon.process import ReadConfiguration
from keepaliveD.model.errors import ConfigError, KernelError, NotPermitted, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import OnDrift
from keepaliveD.model.snapshot import Setting, Snapshot, Tried
from keepaliveD.model.sockets import SocketTable
from keepaliveD.platforms.base import Session
from tests.records.test_settings import fail_with
from tests.support.fakes import APPLIED, KERNEL, OURS, RESTORED, FakeTuner, FakeWatcher, Stage
from tests.support.tables import idle


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_the_daemon_applies_the_settings_and_restores_them(stage: Stage) -> None:
    stage.run()
    assert stage.tuner.writes == [*APPLIED, *RESTORED]
    assert stage.events() == ["applied"] * 3 + ["started"] + ["restored"] * 3


def test_the_values_found_are_on_disk_before_the_first_write(stage: Stage) -> None:
    """kill -9 may come between any two steps."""
    seen: list[dict[str, int]] = []

    class Looking(FakeTuner):
        def exchange(self, key: str, expected: int, value: int) -> int:
            seen.append(dict(stage.settings_record().due_back(OURS).values))
            return super().exchange(key, expected, value)

    stage.tuner = Looking()
    stage.run()
    assert seen[0] == KERNEL


def test_after_a_crash_the_next_start_knows_the_true_originals(stage: Stage) -> None:
    with stage.settings_record().locked():
        stage.start()
    assert stage.tuner.values == OURS
    again = Stage(stage.directory, tuner=stage.tuner)
    again.run()
    assert again.tuner.values == KERNEL


def test_it_keeps_the_settings_if_the_configuration_says_so(stage: Stage) -> None:
    stage.config = dataclasses.replace(stage.config, restore_on_stop=False)
    stage.run()
    assert stage.tuner.values == OURS
    assert stage.settings_record().due_back(stage.tuner.values).values == KERNEL


def test_an_upgrade_hands_the_settings_over_and_the_successor_knows_what_was_found(stage: Stage) -> None:
    stage.successor = True
    stage.run()
    assert stage.tuner.writes == APPLIED
    again = Stage(stage.directory, tuner=stage.tuner)
    again.run()
    assert again.tuner.writes == [*APPLIED, *RESTORED]


def test_a_dry_run_writes_nothing_anywhere(stage: Stage) -> None:
    stage.dry_run = True
    stage.daemon().run()
    assert stage.tuner.writes == []
    assert not any(stage.directory.glob("found*"))
    assert [entry.message for entry in stage.said][:1] == ["time: found 7200, would be set to 180"]


def test_leaving_the_system_alone_does_not_even_read_it(stage: Stage) -> None:
    stage.config = dataclasses.replace(stage.config, apply=False)
    stage.tuner.refusal = NotPermitted("must not be asked")
    stage.run()
    assert stage.events() == ["started"]


def test_settings_that_a_reload_takes_out_of_our_care_are_restored_at_once(stage: Stage) -> None:
    stage.reloads = dataclasses.replace(stage.config, apply=False)
    stage.script = [signal.SIGHUP, lambda: stage.waits.append(stage.tuner.values["time"])]
    stage.run()
    assert 7200 in stage.waits
    assert stage.tuner.writes == [*APPLIED, *RESTORED]


def test_what_a_crash_left_behind_is_restored_when_nothing_is_in_our_care_any_more(stage: Stage) -> None:
    with stage.settings_record().locked():
        stage.start()
    stage.config = dataclasses.replace(stage.config, apply=False)
    stage.run()
    assert stage.tuner.values == KERNEL


def test_it_does_not_start_where_it_may_not_write_and_changes_nothing(stage: Stage) -> None:
    stage.tuner.refusal = NotPermitted("time: cannot be set: run as root")
    with pytest.raises(NotPermitted):
        stage.run()
    assert stage.tuner.values == KERNEL
    assert not any(stage.directory.glob("found*"))
    assert stage.notified == []
    assert stage.said == [], "whoever catches it says it"


def test_it_does_not_start_where_it_cannot_watch_and_changes_nothing(stage: Stage) -> None:
    stage.watcher.refusal = KernelError("sock_diag: no")
    with pytest.raises(KernelError):
        stage.run()
    assert stage.tuner.writes == []


def test_it_tells_the_service_manager_its_state(stage: Stage) -> None:
    stage.script = [None, signal.SIGTERM]
    stage.run()
    states = [assignments[0] for assignments in stage.notified]
    assert states == ["READY=1", "WATCHDOG=1", "STOPPING=1"]
    assert stage.notified[0][1].startswith("STATUS=Watching 0 connections; system keepalive idle 3min")


def test_it_shows_life_more_often_than_it_scans(stage: Stage) -> None:
    """The watchdog may be more impatient than the scan."""
    stage.watchdog = 6.0
    stage.script = [None, None, None, None, None]
    stage.run()
    assert stage.waits[:4] == [6.0, 6.0, 3.0, 6.0]


def test_drift_is_noticed_within_one_scan_and_set_back(stage: Stage) -> None:
    stage.script = [lambda: stage.tuner.values.update(time=300), None]
    stage.run()
    assert "drift" in stage.events()
    assert stage.tuner.writes[len(OURS)] == ("time", 180)


def test_what_somebody_else_wanted_meanwhile_is_what_they_get_back(stage: Stage) -> None:
    """Without us the system would be at 300 now."""
    stage.script = [lambda: stage.tuner.values.update(time=300), None]
    stage.run()
    assert stage.tuner.values == KERNEL | {"time": 300}


@pytest.mark.parametrize("on_drift", [OnDrift.YIELD, OnDrift.WARN])
def test_what_is_left_to_somebody_else_stays_theirs_after_the_stop(stage: Stage, on_drift: OnDrift) -> None:
    stage.config = dataclasses.replace(stage.config, on_drift=on_drift)
    stage.script = [lambda: stage.tuner.values.update(time=300), None]
    stage.run()
    assert stage.tuner.values == KERNEL | {"time": 300}


@pytest.mark.parametrize("on_drift", [OnDrift.REAPPLY, OnDrift.WARN])
def test_each_change_by_somebody_else_counts_once_and_so_does_each_scan(stage: Stage, on_drift: OnDrift) -> None:
    """Also one that is reported only later, together with others."""
    stage.config = dataclasses.replace(stage.config, on_drift=on_drift)
    seen: list[Tried] = []

    def change(value: int) -> Callable[[], None]:
        return lambda: stage.tuner.values.update(time=value)

    daemon = stage.daemon()
    stage.script = [change(300), None, change(400), *[None] * 10, lambda: seen.append(daemon.view.snapshot().tried)]
    with stage.settings_record().locked():
        daemon.run()
    assert [tried.drifts for tried in seen] == [2]
    assert seen[0].scans == len(stage.waits) - 1


def asked(stage: Stage, *happenings: Callable[[], None]) -> Snapshot:
    """How the daemon is after this, and a scan each."""
    seen: list[Snapshot] = []
    daemon = stage.daemon()
    stage.script = [*happenings, None, lambda: seen.append(daemon.view.snapshot())]
    with stage.settings_record().locked():
        daemon.run()
    return seen[0]


def test_a_setting_that_cannot_be_set_again_is_a_problem_with_its_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        stage.tuner.values.update(time=5000)
        monkeypatch.setattr("keepaliveD.records.directory.open_new", fail_with(errno.EPERM))

    snapshot = asked(stage, change)
    assert snapshot.settings[0] == Setting("time", 180, 5000, None, "cannot be set")
    assert not any(one.note for one in snapshot.settings[1:])
    (problem,) = snapshot.problems
    assert problem.startswith("not set: time = 180; nothing is changed without a durable record: ")


def test_a_stricter_setting_that_is_kept_is_said_to_be(stage: Stage) -> None:
    stage.tuner.values.update(time=60)
    snapshot = asked(stage)
    assert snapshot.settings[0] == Setting("time", 180, 60, None, "a stricter time is kept (keepalive.keep_stricter)")
    assert not any(one.note for one in snapshot.settings[1:])
    assert snapshot.problems == ()


def test_a_failed_scan_is_reported_once_and_then_that_it_is_over(stage: Stage) -> None:
    def fail() -> None:
        stage.watcher.refusal = KernelError("sock_diag: no")

    def recover() -> None:
        stage.watcher.refusal = None

    stage.script = [fail, None, recover, None]
    stage.run()
    said = [entry.message for entry in stage.said if entry.event == "scan-failed"]
    assert said == [
        "scan failed; connections are not being watched: sock_diag: no",
        "scan succeeded; connections are being watched again",
    ]


def test_what_somebody_else_sets_is_set_right_also_while_scans_fail(stage: Stage) -> None:
    """Whoever blinds the daemon does not make the host lose its settings, too."""

    def fail() -> None:
        stage.watcher.refusal = KernelError("sock_diag: no")
        stage.tuner.values.update(time=300)

    stage.script = [fail, None, lambda: seen.append(dict(stage.tuner.values)), None]
    seen: list[dict[str, int]] = []
    stage.run()
    assert seen == [OURS]
    assert "drift" in stage.events()


def test_a_reload_goes_by_the_new_configuration(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text('[keepalive]\nidle = "120s"\n')
    stage.reloads = load(tmp_path / "new.toml")
    stage.script = [signal.SIGHUP]
    stage.run()
    assert stage.tuner.writes == [*APPLIED, ("time", 120), *RESTORED]
    assert [assignments[0] for assignments in stage.notified] == [
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "STOPPING=1",
    ]


def test_what_is_doubtful_about_a_configuration_is_logged_at_start_and_reload(stage: Stage, tmp_path: Path) -> None:
    """Whoever reloads by systemctl sees no warnings of `check`."""
    stage.run()
    assert "doubtful" not in stage.events()
    (tmp_path / "new.toml").write_text('[[path]]\nname = "hasty"\ntimeout = "60s"\n')
    stage.reloads = ReadConfiguration(tmp_path / "new.toml").carry_out()
    stage.script = [signal.SIGHUP]
    stage.run()
    (doubt,) = [entry.message for entry in stage.said if entry.event == "doubtful"]
    assert doubt.startswith("configuration: path hasty: only 0 of at least 2 probes can leave before it forgets")


def test_a_wrong_configuration_is_reported_and_the_old_one_stays(stage: Stage) -> None:
    stage.reloads = ConfigError("a.toml: x: wrong\na.toml: y: wrong")
    stage.script = [signal.SIGHUP]
    stage.run()
    said = [entry.message for entry in stage.said if entry.event == "reload-failed"]
    assert said == [
        "reload failed, the old configuration stays: a.toml: x: wrong",
        "reload failed, the old configuration stays: a.toml: y: wrong",
    ]
    assert stage.tuner.writes == [*APPLIED, *RESTORED]
    assert len(stage.opened) == 1


def test_a_reload_to_an_engine_that_cannot_be_had_leaves_everything_as_it_was(stage: Stage) -> None:
    """The armer with the reader: it once demanded BPF although the old configuration stayed."""

    def refuse() -> None:
        stage.cannot_open = Unsupported("no BPF")
        stage.reloads = dataclasses.replace(stage.config, engine="bpf")

    sessions: list[Session | None] = []
    stage.script = [lambda: sessions.append(stage.session), refuse, signal.SIGHUP, None]
    stage.run()
    assert "reload-failed" in stage.events()
    assert [watching.engine for watching in stage.opened] == ["auto", "bpf"]
    assert sessions == [stage.session]


def test_a_reload_to_settings_that_this_kernel_cannot_hold_keeps_the_old_ones(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the kernel's adapter knows its limits, and a running daemon outlives a wrong number."""

    def refuse(_: Keepalive) -> Mapping[str, int]:
        raise ConfigError("keepalive.idle = 1: out of range; this system allows 10 to 864000")

    stage.script = [lambda: monkeypatch.setattr(stage.tuner, "names", refuse), signal.SIGHUP, None]
    stage.run()
    said = [entry.message for entry in stage.said if entry.event == "reload-failed"]
    assert said == [
        "reload failed, the old configuration stays: keepalive.idle = 1: out of range; this system allows 10 to 864000"
    ]
    assert stage.tuner.writes == [*APPLIED, *RESTORED]
    assert len(stage.opened) == 1


def test_the_service_manager_sees_a_wrong_configuration_until_it_is_put_right(stage: Stage) -> None:
    def put_right() -> None:
        stage.reloads = None

    stage.reloads = ConfigError("a.toml: x: wrong\na.toml: y: wrong")
    stage.script = [signal.SIGHUP, None, put_right, signal.SIGHUP]
    stage.run()
    wrong = "STATUS=reload failed, the old configuration stays: a.toml: x: wrong; Watching 0 connections"
    assert stage.notified[2][1].startswith(wrong)
    assert stage.notified[3][1].startswith(wrong)
    assert stage.notified[-2][1].startswith("STATUS=Watching 0 connections")


def test_a_reload_does_not_report_again_what_was_reported(stage: Stage) -> None:
    stage.watcher = FakeWatcher(lambda now: [idle(now - 800.0)])
    stage.script = [signal.SIGHUP, None]
    stage.run()
    assert stage.events().count("bare") == 1


def test_a_connection_is_warned_of_and_then_given_up(stage: Stage) -> None:
    stage.watcher = FakeWatcher(lambda now: [idle(now - 1000.0)])
    stage.script = [None] * 20
    stage.run()
    told = [entry for entry in stage.said if "KEEPALIVE_VERDICT" in entry.fields]
    assert [entry.event for entry in told] == ["bare", "cut"]
    assert told[0].fields["KEEPALIVE_LEFT_SEC"] == 59.9
    assert told[0].message == (
        "backup[77] (backup.service) 192.0.2.1:40000 -> 198.51.100.1:22: at risk: no packet is due, and "
        "path default forgets it in 1min (quiet for 3min; idle timeout 4min, guess: watch.default_timeout); "
        "switch keepalive on in the program"
    )


def test_it_says_how_sockets_are_read_and_when_that_changes(stage: Stage) -> None:
    """Another engine may know less, and somebody has to learn why it was taken."""

    class Failing(FakeWatcher):
        def scan(self, now: float) -> SocketTable:
            self.engine_description = "bpf engine" if now < 1010 else "netlink engine (bpf is gone)"
            return super().scan(now)

    stage.watcher = Failing(engine_description="bpf engine")
    stage.script = [None, None]
    stage.run()
    started, changed = (entry.message for entry in stage.said if entry.event in ("started", "scan-failed"))
    assert started.endswith("; bpf engine")
    assert changed == "switched to the netlink engine (bpf is gone)"
