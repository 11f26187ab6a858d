"""Ends of connections come in as events, and are logged; seeing them is begun and ended as configured."""

from __future__ import annotations

import dataclasses
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.config import load
from keepaliveD.daemon.deaths import PAUSE, DeathSource
from keepaliveD.log import entries
from keepaliveD.model.actions import Outcome
from keepaliveD.model.connections import Counts, Owner
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import KernelError, NotPermitted
from keepaliveD.model.events import Died
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.reports import ReportReloaded, ReportStarted
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.model.status import Status
from keepaliveD.places import MEASURES
from keepaliveD.platforms.base import DeathReader, DeathWatch
from keepaliveD.platforms.requests import FindOwners
from tests.support.ends import FORGOTTEN_BY_REJECT, Facts, ends
from tests.support.fakes import FakeDeaths, FakeOwners, FakeWatcher, Stage
from tests.support.tables import idle

KILLED: Facts = {"error": 103, "closer": b"ss", "closer_pid": 77}
ENABLE = ArmRule("arm[1]", ArmAction.ENABLE, 180, 20, 31)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def died(*facts: Facts) -> Died:
    return Died(Deaths(ends(facts)))


def test_what_ended_a_connection_is_logged_with_its_owner(stage: Stage) -> None:
    stage.script = [died(FORGOTTEN_BY_REJECT), None]
    stage.run()
    (entry,) = [entry for entry in stage.said if entry.event == "died"]
    assert entry.fields["KEEPALIVE_CAUSE"] == "middlebox-idle"


def test_the_remedy_says_how_often_to_scan_where_the_daemon_scans_too_seldom(stage: Stage) -> None:
    """Of a path that forgets after a second; also at a stop, when nobody looks for owners."""
    stage.config = dataclasses.replace(stage.config, interval=0.75)
    stage.script = [died(FORGOTTEN_BY_REJECT), None]
    stage.run()
    (entry,) = [entry for entry in stage.said if entry.event == "died"]
    assert str(entry.fields["KEEPALIVE_REMEDY"]).startswith('[watch]\ninterval = "500ms"')


def test_what_ended_a_connection_is_logged_even_if_its_owner_cannot_be_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[Owner]:
        raise KernelError("the worker process hangs")

    monkeypatch.setattr(FakeOwners, "find", refuse)
    stage.script = [died(FORGOTTEN_BY_REJECT), None]
    stage.run()
    assert "died" in stage.events()
    assert "refused" not in stage.events()


def close(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no process is found that holds the socket: its program has closed it."""
    monkeypatch.setattr(FakeOwners, "find", lambda _, inodes, __: [Owner(unit="backup.service")] * len(inodes))
    stage.watcher.sockets = lambda _: []


@pytest.mark.parametrize("armed", [False, True])
def test_a_program_that_has_closed_its_connection_is_named_if_it_was_named_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, armed: bool
) -> None:
    stage.watcher.sockets = lambda now: [idle(now - 780.0, cookie=1, inode=1)]
    if armed:
        stage.config = dataclasses.replace(stage.config, arm=(ENABLE,))
    stage.script = [None, lambda: close(stage, monkeypatch), died(FORGOTTEN_BY_REJECT), None]
    stage.run()
    assert ("armed" in stage.events()) == armed
    (entry,) = [entry for entry in stage.said if entry.event == "died"]
    assert entry.message.startswith("backup[77] (backup.service) ")
    assert (entry.fields["KEEPALIVE_PROCESS"], entry.fields["KEEPALIVE_PID"]) == ("backup", 77)


def test_the_name_of_a_program_hides_no_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any program may call itself as the one that measures paths does."""
    named_alike = Owner(7, MEASURES, "evil.service")
    monkeypatch.setattr(FakeOwners, "find", lambda _, inodes, *__: [named_alike] * len(inodes))
    stage.script = [died(FORGOTTEN_BY_REJECT), None]
    stage.run()
    assert counts(stage) == [1]


def test_what_was_held_back_is_logged_when_its_time_has_come(stage: Stage) -> None:
    stage.script = [died(*[KILLED] * 100), died(KILLED, KILLED), *[None] * 6]
    stage.run()
    counts = [entry.fields.get("KEEPALIVE_COUNT") for entry in stage.said if entry.event == "died"]
    assert counts == [100, 2]


def counts(stage: Stage) -> list[object]:
    """How many connections each entry is about, in the order of the entries."""
    return [entry.fields.get("KEEPALIVE_COUNT", 1) for entry in stage.said if entry.event == "died"]


def test_what_is_held_back_is_logged_when_the_daemon_stops(stage: Stage) -> None:
    stage.script = [died(*[KILLED] * 100), died(KILLED, KILLED)]
    stage.run()
    assert counts(stage) == [100, 2]


def test_a_report_that_waits_for_a_worker_is_logged_when_the_daemon_stops(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = stage.ask
    monkeypatch.setattr(stage, "ask", lambda request: isinstance(request, FindOwners) or ask(request))
    stage.script = [died(FORGOTTEN_BY_REJECT)]
    stage.run()
    assert counts(stage) == [1]


def test_an_end_just_before_the_stop_is_logged(stage: Stage) -> None:
    stage.script = [lambda: setattr(stage.deaths[0], "young", Deaths(ends([KILLED])))]
    stage.run()
    assert counts(stage) == [1]
    assert stage.deaths[0].closed


def test_the_status_counts_what_ended(stage: Stage) -> None:
    stage.script = [died(FORGOTTEN_BY_REJECT, KILLED), None]
    stage.run()
    assert "; ended: not foretold 1, not foreseeable 1" in stage.notified[-2][-1] + stage.notified[-3][-1]


def test_ends_are_seen_from_the_start_to_a_reload_that_does_not_want_them(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[autopsy]\nenabled = false")
    stage.reloads = load(file)
    stage.script = [lambda: _is_open(stage), signal.SIGHUP, None]
    stage.run()
    assert [each.closed for each in stage.deaths] == [True]


def _is_open(stage: Stage) -> None:
    assert [each.closed for each in stage.deaths] == [False]


def test_ends_are_seen_in_the_namespaces_that_are_watched(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[watch]\nnamespaces = "own"')
    stage.reloads = load(file)
    stage.script = [signal.SIGHUP, None]
    stage.run()
    assert [each.watch and each.watch.everywhere for each in stage.deaths] == [True, False]


def test_a_dry_run_and_a_run_without_an_autopsy_see_no_ends(stage: Stage) -> None:
    stage.dry_run = True
    stage.start()
    assert not stage.deaths


def test_where_ends_cannot_be_seen_that_is_reported_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: DeathWatch) -> DeathReader:
        raise NotPermitted("requires CAP_BPF")

    monkeypatch.setattr(stage, "watch_deaths", refuse)
    stage.script = [None, None]
    stage.run()
    (said,) = [entry for entry in stage.said if "KEEPALIVE_UNSEEN" in entry.fields]
    assert said.event == "started"
    assert said.message.endswith("; ends of connections are not seen; see keepalivectl status")
    assert said.fields["KEEPALIVE_UNSEEN"] == "ends of connections are not seen: requires CAP_BPF"


def test_the_start_is_one_short_line_and_its_fields_have_the_reasons(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = FakeDeaths()
    limited.hindered = "only ends that this host gave up are seen: requires CAP_BPF; the drop-in bpf.conf gives it"
    monkeypatch.setattr(stage, "watch_deaths", lambda _: limited)
    stage.watcher = FakeWatcher(engine_description="netlink engine (BPF is not permitted: requires CAP_BPF)")
    stage.script = [None]
    stage.run()
    (said,) = [entry for entry in stage.said if entry.event == "started"]
    assert said.message.endswith("; netlink engine; only ends that this host gave up are seen; see keepalivectl status")
    assert said.fields == {
        "KEEPALIVE_ENGINE": "netlink engine (BPF is not permitted: requires CAP_BPF)",
        "KEEPALIVE_UNSEEN": limited.hindered,
    }


def test_why_nothing_is_armed_at_connect_is_not_said_again_where_the_engine_has_the_reason() -> None:
    reason = "BPF is not permitted: requires CAP_BPF"
    status = Status(Counts(0, 1, {}), None, {})
    cannot = "cannot arm at connect; new connections are armed at the next scan"
    for why, message in ((f"{reason} and CAP_NET_ADMIN", cannot), ("in use", f"{cannot} (in use)")):
        started = ReportStarted(status, f"netlink engine ({reason})", f"{cannot} ({why})", "", ())
        (said,) = entries.of(Outcome(started))
        assert said.message.endswith(f"; netlink engine; see keepalivectl status; {message}")


def test_a_reload_does_not_claim_what_could_not_be_set() -> None:
    status = Status(Counts(0, 1, {}), Keepalive(50, 20, 31), {}, refused={"net.ipv4.tcp_keepalive_time": "full"})
    (said,) = entries.of(Outcome(ReportReloaded(status, "", "")))
    assert said.message.endswith("idle 50s, interval 20s, probes 31, but cannot set net.ipv4.tcp_keepalive_time")


def test_an_autopsy_that_is_switched_off_is_why_no_end_is_seen(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[autopsy]\nenabled = false")
    stage.config = load(file)
    assert stage.start().view.snapshot().unseen == "ends of connections are not seen: autopsy.enabled = false"


class Clock:
    """Steps when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kernel() -> FakeDeaths:
    return FakeDeaths()


@pytest.fixture
def source(kernel: FakeDeaths, clock: Clock) -> Iterator[DeathSource]:
    first = [kernel]
    source = DeathSource(lambda _: first.pop() if first else FakeDeaths(), clock)
    source.begin(DeathWatch())
    yield source
    source.close()
    assert kernel.closed


def can_be_read(source: DeathSource) -> bool:
    return source.fileno() >= 0 and bool(select.select([source], [], [], 0)[0])


def test_an_end_makes_the_descriptor_readable_and_is_an_event(source: DeathSource, kernel: FakeDeaths) -> None:
    assert not can_be_read(source)
    assert list(source.events()) == []
    kernel.end(Deaths(ends([KILLED])))
    assert can_be_read(source)
    (event,) = source.events()
    assert isinstance(event, Died)
    assert len(event.deaths.ended) == 1


def test_many_ends_are_read_at_most_once_in_a_pause(source: DeathSource, kernel: FakeDeaths, clock: Clock) -> None:
    kernel.end(Deaths(ends([KILLED])))
    assert len(list(source.events())) == 1
    kernel.end(Deaths(ends([KILLED])))
    kernel.ripe_at = 0.0
    assert not can_be_read(source)
    assert list(source.events()) == []
    assert source.due() == clock.now + PAUSE
    clock.now += PAUSE
    assert len(list(source.events())) == 1
    kernel.end(Deaths(ends([KILLED])))
    clock.now += PAUSE
    assert len(list(source.events())) == 1


def test_an_end_that_ripens_is_due(source: DeathSource, kernel: FakeDeaths, clock: Clock) -> None:
    assert source.due() == FOREVER
    kernel.ripe_at = 101.0
    assert source.due() == 101.0
    kernel.end(Deaths(ends([KILLED]), ordinary=1))
    clock.now = 101.0
    assert len(list(source.events())) == 1
    kernel.ripe_at, clock.now = None, 102.0
    assert list(source.events()) == []
    kernel.end(Deaths(ends([KILLED])))
    assert can_be_read(source)


def test_another_engine_takes_over_where_it_can_be_had(clock: Clock) -> None:
    kernels: list[FakeDeaths] = []

    def watch(watch: DeathWatch) -> FakeDeaths:
        if watch.engine == "bpf":
            raise NotPermitted("requires CAP_BPF")
        kernels.append(FakeDeaths())
        return kernels[-1]

    source = DeathSource(watch, clock)
    source.begin(DeathWatch("auto"))
    source.begin(DeathWatch("auto"))
    with pytest.raises(NotPermitted):
        source.begin(DeathWatch("bpf"))
    assert [kernel.closed for kernel in kernels] == [False]
    source.begin(DeathWatch("netlink"))
    assert [kernel.closed for kernel in kernels] == [True, False]
    kernels[1].end(Deaths(ends([KILLED])))
    assert len(list(source.events())) == 1
    source.close()


def test_what_ended_just_before_another_engine_takes_over_is_an_event(source: DeathSource, kernel: FakeDeaths) -> None:
    kernel.young = Deaths(ends([KILLED]))
    source.begin(DeathWatch(everywhere=False))
    assert source.due() <= 100.0
    (event,) = source.events()
    assert isinstance(event, Died)
    assert len(event.deaths.ended) == 1
    assert list(source.events()) == []


def test_nothing_is_seen_after_the_end(source: DeathSource) -> None:
    source.end()
    assert (list(source.events()), source.due()) == ([], FOREVER)
