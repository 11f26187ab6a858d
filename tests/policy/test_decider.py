"""The daemon's life as numbers: events and instants go in, actions come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from keepaliveD.model.actions import (
    Abandon,
    Action,
    Answer,
    Arm,
    ArmAtConnect,
    Because,
    Disarm,
    DisarmAll,
    EndAtConnect,
    EndDaemon,
    FoundSettings,
    LoadConfiguration,
    LogOutcome,
    LookInto,
    Notify,
    OpenSession,
    Outcome,
    Phase,
    Queued,
    RefreshAtConnect,
    RestoreSettings,
    ScanSockets,
    SeeLastDeaths,
    SetSystemKeepalive,
    TidyArmingRecord,
)
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import ConfigError, KernelError, NotPermitted
from keepaliveD.model.events import (
    Asked,
    BegunAtConnect,
    Done,
    Event,
    Failed,
    Idle,
    Loaded,
    Opened,
    Reload,
    Scanned,
    Start,
    Stop,
    Tick,
)
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.questions import (
    ArmThis,
    Asker,
    DisarmThis,
    ExplainThese,
    Question,
    ReloadNow,
    RestoreThese,
    ScanNow,
)
from keepaliveD.model.reports import ReportBlind, ReportRefused, ReportReloaded, ReportReloadFailed
from keepaliveD.model.rules import OnDrift, Path, Rules, Watching
from keepaliveD.policy.decider import LONGEST_STOP, Decider
from keepaliveD.policy.scan_times import COSTS
from tests.support.tables import CONFIGURED, idle, table

FOUND = {"time": 7200}
RULES = Rules(
    {"time": 180},
    OnDrift.REAPPLY,
    [Path("firewall", 300.0, CONFIGURED)],
    [],
    60.0,
    keepalive=Keepalive(180, 20, 31),
    interval=15.0,
)
OLD = dataclasses.replace(RULES, wanted={}, keepalive=None)  # the system is left alone: one action less


def kinds(actions: Iterable[Action]) -> list[type]:
    return [type(action) for action in actions]


def reports(actions: Iterable[Action]) -> list[object]:
    return [action.outcome.action for action in actions if isinstance(action, LogOutcome)]


class Host:
    """Carries out at once whatever the decider asks for, as the loop does, and keeps what it asked for."""

    def __init__(self, decider: Decider, quiet_since: float = 0.0) -> None:
        self.decider = decider
        self.asked: list[Action] = []
        self.next_rules = OLD
        self.refused: KernelError | None = None  # what comes of setting the system's keepalive
        self._quiet_since = quiet_since

    def hand_in(self, event: Event, now: float) -> list[Action]:
        """Hand this in and all that comes of it; return the actions."""
        before = len(self.asked)
        queue = self.decide(event, now)
        while queue:
            queue += self.decide(self.answer(queue.pop(0), now), now)
            if not queue:
                queue += self.decide(Idle(), now)
        return self.asked[before:]

    def decide(self, event: Event, now: float) -> list[Queued]:
        """Return those actions that wait for their turn."""
        actions = self.decider.decide(event, now)
        self.asked += actions
        return [action for action in actions if not isinstance(action, LogOutcome | Notify | Abandon | EndDaemon)]

    def answer(self, action: Queued, now: float) -> Event:
        """Everything succeeds, unless it is to be refused."""
        match action:
            case LoadConfiguration():
                return Loaded(self.next_rules)
            case OpenSession():
                return Opened("")
            case ScanSockets():
                return Scanned(
                    table(now, *([idle(now - self._quiet_since)] if self._quiet_since else [])),
                    FoundSettings(FOUND, FOUND),
                )
            case ArmAtConnect():
                return BegunAtConnect()
        outcome = Outcome(action, refused=self.refused)
        return Done(action, (outcome,) if isinstance(action, SetSystemKeepalive) else ())


def started(rules: Rules = OLD, quiet_since: float = 0.0) -> Host:
    """A daemon that has scanned at 1000, on a host without connections or with one."""
    host = Host(Decider(rules), quiet_since)
    host.hand_in(Start(), 1000.0)
    return host


def test_a_start_opens_a_session_scans_applies_and_is_ready() -> None:
    assert kinds(started(RULES).asked)[:3] == [OpenSession, ScanSockets, SetSystemKeepalive]
    assert started(RULES).asked[-1] == Notify(Phase.READY)


def test_it_scans_at_the_interval() -> None:
    host = started()
    assert host.decider.due == 1015.0
    assert host.hand_in(Tick(), 1014.9) == []
    assert kinds(host.hand_in(Tick(), 1015.0)) == [ScanSockets, RefreshAtConnect, TidyArmingRecord]
    assert host.decider.due == 1030.0


def test_it_scans_sooner_where_the_scan_decides_a_verdict() -> None:
    host = started(OLD, quiet_since=750.0)
    (cut_by,) = host.decider.judgement.forecast.cut_by
    host.hand_in(Tick(), cut_by - 20.0)
    assert host.decider.due == cut_by - 5.0, "at the interval"
    host.hand_in(Tick(), cut_by - 5.0)
    assert host.decider.due == cut_by


def test_scans_for_a_deadline_are_as_far_apart_as_they_are_expensive() -> None:
    host = started(OLD, quiet_since=750.0)
    (cut_by,) = host.decider.judgement.forecast.cut_by
    host.decider.decide(Tick(), cut_by - 5.0)
    end = cut_by - 4.5
    for action in host.decider.decide(Scanned(table(cut_by - 5.0, idle(cut_by - 5.0 - 750.0))), end):
        if isinstance(action, TidyArmingRecord):
            host.decider.decide(Done(action, ()), end)
    host.decider.decide(Idle(), end)
    assert host.decider.due == pytest.approx(end + COSTS * 0.5)


def test_a_scan_that_fails_is_reported_once_and_tried_again_at_the_interval() -> None:
    host = started(OLD, quiet_since=750.0)
    decider = host.decider
    for now in (1020.0, 1040.0):
        assert decider.decide(Tick(), now) == [ScanSockets(with_settings=False)]
        actions = decider.decide(Failed(ScanSockets(with_settings=False), KernelError("no")), now)
        assert len(actions) == (1 if now == 1020.0 else 0)
        assert decider.decide(Idle(), now) == []
        assert decider.due == now + 15.0, "whatever deadline has passed"
    assert decider.status.blind == "scan failed; connections are not being watched: no"
    assert ReportBlind("") in reports(host.hand_in(Tick(), 1060.0))
    assert decider.status.blind == ""


def test_what_fails_in_a_scan_does_not_keep_the_rest_from_being_done() -> None:
    """A host full of strangers: what nobody foresaw must not end the watch."""
    host = started()
    host.decider.decide(Tick(), 1015.0)
    refresh, tidy = host.decider.decide(Scanned(table(1015.0)), 1015.0)
    assert isinstance(refresh, RefreshAtConnect)
    assert len(host.decider.decide(Failed(refresh, RuntimeError("what")), 1015.0)) == 1
    assert isinstance(tidy, TidyArmingRecord)
    assert host.decider.decide(Done(tidy, (Outcome(tidy),)), 1015.0) == [], "it is not over: something failed"
    assert host.decider.status.blind


def test_a_scan_whose_end_fails_is_followed_by_another_one_at_the_interval_and_answered() -> None:
    host = started()
    asked(host, ScanNow())
    host.decider.decide(Tick(), 1001.0)
    _, tidy = host.decider.decide(Scanned(table(1001.0)), 1001.0)
    assert isinstance(tidy, TidyArmingRecord)
    failed = host.decider.decide(Failed(tidy, RuntimeError("what")), 1001.0)
    assert [action.asker for action in failed if isinstance(action, Answer)] == [ASKER]
    host.decider.decide(Idle(), 1001.0)
    assert host.decider.due == 1016.0


def test_a_start_that_fails_restores_and_ends_with_the_error() -> None:
    decider = Decider(RULES)
    decider.decide(Opened(""), 1000.0)
    action = decider.decide(Scanned(table(1000.0), FoundSettings(FOUND, FOUND)), 1000.0)[0]
    assert isinstance(action, SetSystemKeepalive)
    refusal = NotPermitted("time: cannot be set: run as root")
    ending = decider.decide(Done(action, (Outcome(action, refused=refusal),)), 1000.0)
    assert kinds(ending) == [Abandon, RestoreSettings, SeeLastDeaths, EndAtConnect], "whoever catches the error logs it"
    assert decider.decide(Idle(), 1000.0) == [EndDaemon(refusal)]


def test_a_reload_asked_for_in_the_middle_of_a_scan_begins_when_the_scan_ends() -> None:
    host = started()
    host.decider.decide(Tick(), 1015.0)
    assert host.decider.decide(Reload(), 1015.1) == []
    assert host.decider.decide(Reload(), 1015.2) == []
    assert host.decider.decide(Idle(), 1015.3) == [Notify(Phase.RELOADING), LoadConfiguration()]


def test_a_reload_follows_the_new_rules_once_their_session_is_open() -> None:
    host = started()
    host.decider.decide(Reload(), 1001.0)
    other = dataclasses.replace(OLD, interval=60.0, watching=Watching("netlink"))
    assert host.decider.decide(Loaded(other), 1001.0) == [OpenSession(other.watching)]
    assert host.decider.rules is OLD
    assert ArmAtConnect(other) in host.decider.decide(Opened("netlink engine"), 1001.0)
    actions = host.decider.decide(BegunAtConnect("armed at connect"), 1001.0)
    assert actions == [ScanSockets(with_settings=False)], "it is complete once a scan has applied it"


def test_a_reload_is_reported_once_it_is_applied_and_says_what_was_refused() -> None:
    host = started()
    host.refused = KernelError("no space left on device")
    host.next_rules = dataclasses.replace(RULES, wanted={"time": 50}, keepalive=Keepalive(50, 20, 31))
    actions = [type(report) for report in reports(host.hand_in(Reload(), 1001.0))]
    assert actions == [SetSystemKeepalive, ReportReloaded]
    (report,) = (each for each in reports(host.asked) if isinstance(each, ReportReloaded))
    assert report.status.refused == {"time": "no space left on device"}


@pytest.mark.parametrize("action", [LoadConfiguration(), OpenSession(Watching())])
def test_a_reload_that_fails_leaves_the_old_rules_and_scans(action: Queued) -> None:
    host = started()
    host.decider.decide(Reload(), 1001.0)
    actions = host.decider.decide(Failed(action, ConfigError("a: wrong\nb: wrong")), 1001.0)
    (report,) = reports(actions)
    assert isinstance(report, ReportReloadFailed)
    assert [line.rpartition(": the")[0] or line for line in report.lines] == [
        "reload failed, the old configuration stays: a: wrong",
        "reload failed, the old configuration stays: b: wrong",
    ]
    assert isinstance(actions[-1], ScanSockets)
    assert host.decider.rules is OLD
    assert host.decider.decide(Idle(), 1002.0) == [Notify(Phase.READY)]


def test_a_stop_gives_up_what_is_going_on_and_puts_everything_back() -> None:
    rules = dataclasses.replace(RULES, disarm_on_stop=True)
    host = started(rules)
    host.decider.decide(Tick(), 1015.0)
    actions = host.decider.decide(Stop(), 1016.0)
    undone = [RestoreSettings(), SeeLastDeaths(), DisarmAll(), EndAtConnect()]
    assert actions == [Abandon(), Notify(Phase.STOPPING), *undone]
    assert host.decider.decide(Stop(), 1017.0) == []
    assert host.decider.decide(Idle(), 1018.0) == [EndDaemon(None)]


def test_a_successor_finds_everything_as_it_is() -> None:
    host = started(dataclasses.replace(RULES, disarm_on_stop=True))
    assert kinds(host.decider.decide(Stop(handing_over=True), 1016.0)) == [Abandon, Notify, SeeLastDeaths, EndAtConnect]


def test_sockets_that_cannot_be_disarmed_in_time_stay_armed() -> None:
    host = started(dataclasses.replace(RULES, disarm_on_stop=True))
    host.decider.decide(Stop(), 1016.0)
    assert host.decider.due == 1016.0 + LONGEST_STOP
    actions = host.decider.decide(Tick(), 1016.0 + LONGEST_STOP)
    assert kinds(actions) == [Abandon, LogOutcome, EndAtConnect]
    (report,) = reports(actions)
    assert report == ReportRefused("cannot disarm, sockets stay armed: no answer; run keepalivectl disarm")
    assert host.decider.due == FOREVER
    (end,) = host.decider.decide(Idle(), 1016.0 + LONGEST_STOP)
    assert isinstance(end, EndDaemon)
    assert isinstance(end.error, KernelError), "whoever stopped the daemon learns it from the exit status"
    assert str(end.error) == report.reason


def test_what_cannot_be_restored_is_logged_and_the_error_at_the_end() -> None:
    host = started(RULES)
    host.decider.decide(Stop(), 1016.0)
    refused = Outcome(RestoreSettings(), refused=NotPermitted("time: no"))
    assert host.decider.decide(Done(RestoreSettings(), (refused,)), 1016.0) == [LogOutcome(refused)]
    assert host.decider.decide(Idle(), 1016.0) == [EndDaemon(refused.refused)]


def test_one_scan_for_a_person_undoes_what_it_did() -> None:
    host = Host(Decider(OLD, once=True))
    host.hand_in(Start(), 1000.0)
    assert DisarmAll(only_mine=True) in host.asked
    assert not any(isinstance(action, ArmAtConnect) for action in host.asked)
    assert host.asked[-1] == EndDaemon(None)


ASKER = Asker(1, 0, 812)


def asked(host: Host, question: Question, now: float = 1001.0) -> list[Action]:
    return host.hand_in(Asked(ASKER, question), now)


def test_a_reload_that_is_asked_for_is_answered_when_it_is_done() -> None:
    """After a scan has applied it; and a second one that is asked for meanwhile is another one."""
    host = started()
    actions = asked(host, ReloadNow())
    assert actions[-1] == Answer(ASKER, None)
    assert [kind for kind in kinds(actions) if kind in (LoadConfiguration, ScanSockets, Answer)] == [
        LoadConfiguration,
        ScanSockets,
        Answer,
    ]
    decider = Host(Decider(OLD)).decider
    decider.decide(Start(), 1000.0)
    decider.decide(Opened(""), 1000.0)
    decider.decide(Idle(), 1000.0)
    decider.decide(Asked(ASKER, ReloadNow()), 1001.0)
    assert decider.decide(Asked(Asker(2, 0, 812), ReloadNow()), 1001.0) == []
    ended = decider.decide(Idle(), 1002.0)
    assert [action for action in ended if isinstance(action, Answer)] == [Answer(ASKER, None)]
    assert LoadConfiguration() in ended


def test_a_scan_that_is_asked_for_comes_at_once_and_is_answered_when_all_is_done() -> None:
    host = started()
    assert asked(host, ScanNow()) == []
    assert host.decider.due == 1001.0
    actions = host.hand_in(Tick(), 1001.0)
    assert actions[-1] == Answer(ASKER, None)
    assert kinds(actions) == [ScanSockets, RefreshAtConnect, TidyArmingRecord, Answer]
    assert host.hand_in(Tick(), 1002.0) == []


def test_a_scan_that_is_asked_for_during_another_one_is_another_one() -> None:
    """The one that goes on may have seen the sockets before they were changed."""
    host = started()
    host.decider.decide(Tick(), 1015.0)
    host.decider.decide(Asked(ASKER, ScanNow()), 1015.0)
    tidied = Done(TidyArmingRecord(table(1015.0)), ())
    assert not any(isinstance(action, Answer) for action in host.decider.decide(tidied, 1015.1))
    host.decider.decide(Idle(), 1015.1)
    assert 1015.1 < host.decider.due < 1018.0
    assert host.hand_in(Tick(), host.decider.due)[-1] == Answer(ASKER, None)


def test_a_scan_that_is_asked_for_and_fails_is_answered_with_the_reason() -> None:
    host = started()
    asked(host, ScanNow())
    host.decider.decide(Tick(), 1001.0)
    failed = host.decider.decide(Failed(ScanSockets(with_settings=False), KernelError("no memory")), 1001.0)
    (answer,) = [action for action in failed if isinstance(action, Answer)]
    assert str(answer.answer) == "no memory"


@pytest.mark.parametrize("fails_at", ["its beginning", "its end"])
def test_a_scan_that_is_asked_for_while_another_one_fails_comes_soon(fails_at: str) -> None:
    """Whoever asks waits for the next one, as long as scans are cheap, and not for the interval."""
    host = started()
    (action,) = host.decider.decide(Tick(), 1015.0)
    host.decider.decide(Asked(ASKER, ScanNow()), 1015.0)
    if fails_at == "its end":
        _, action = host.decider.decide(Scanned(table(1015.0)), 1015.1)
    assert isinstance(action, ScanSockets | TidyArmingRecord)
    failed = host.decider.decide(Failed(action, KernelError("no memory")), 1015.1)
    assert not any(isinstance(each, Answer) for each in failed)
    host.decider.decide(Idle(), 1015.1)
    assert 1015.1 < host.decider.due < 1018.0
    assert host.hand_in(Tick(), host.decider.due)[-1] == LogOutcome(Outcome(ReportBlind("")))
    assert Answer(ASKER, None) in host.asked


def test_settings_that_a_person_had_restored_are_left_so_until_a_reload() -> None:
    host = started(RULES)
    (restore,) = host.decider.decide(Asked(ASKER, RestoreThese()), 1001.0)
    assert restore == RestoreSettings(asker=ASKER, cared_for=frozenset(RULES.wanted))
    restored = Outcome(SetSystemKeepalive(FOUND, {"time": 180}, Because.RESTORE, asker=ASKER))
    assert host.decider.decide(Done(restore, (restored,)), 1001.0) == [
        LogOutcome(restored),
        Answer(ASKER, (restored,)),
    ]
    assert not any(isinstance(action, SetSystemKeepalive) for action in host.hand_in(Tick(), 1015.0))


def test_settings_that_are_to_be_restored_while_a_scan_goes_on_are_not_set_by_what_it_finds() -> None:
    """Someone else had set them before: the daemon has said that it leaves them so."""
    host = started(RULES)
    host.decider.decide(Tick(), 1015.0)
    host.decider.decide(Asked(ASKER, RestoreThese()), 1015.0)
    found = host.decider.decide(host.answer(ScanSockets(with_settings=True), 1015.1), 1015.1)
    assert not any(isinstance(action, SetSystemKeepalive) for action in found)


def test_settings_that_could_not_be_restored_at_all_stay_in_the_daemons_care() -> None:
    host = started(RULES)
    (restore,) = host.decider.decide(Asked(ASKER, RestoreThese()), 1001.0)
    assert isinstance(restore, RestoreSettings)
    refused = Outcome(restore, refused=KernelError("damaged"))
    assert host.decider.decide(Done(restore, (refused,)), 1001.0)[-1] == Answer(ASKER, refused.refused)
    assert any(isinstance(action, SetSystemKeepalive) for action in host.hand_in(Tick(), 1015.0))


def test_settings_that_were_left_before_stay_so_when_to_restore_them_again_is_refused() -> None:
    """Their owner has been told that the daemon leaves them so until the next reload."""
    host = started(RULES)
    (first,) = host.decider.decide(Asked(ASKER, RestoreThese()), 1001.0)
    assert isinstance(first, RestoreSettings)
    host.decider.decide(Done(first, ()), 1001.0)
    (again,) = host.decider.decide(Asked(ASKER, RestoreThese()), 1002.0)
    assert isinstance(again, RestoreSettings)
    host.decider.decide(Done(again, (Outcome(again, refused=KernelError("damaged")),)), 1002.0)
    assert not any(isinstance(action, SetSystemKeepalive) for action in host.hand_in(Tick(), 1015.0))


def test_of_two_who_restore_at_once_the_one_who_succeeds_has_the_settings_left() -> None:
    host = started(RULES)
    (first,) = host.decider.decide(Asked(ASKER, RestoreThese()), 1001.0)
    (second,) = host.decider.decide(Asked(Asker(2, 0, 812), RestoreThese()), 1001.0)
    assert isinstance(first, RestoreSettings)
    assert isinstance(second, RestoreSettings)
    host.decider.decide(Failed(first, ValueError("?")), 1001.0)
    host.decider.decide(Done(second, ()), 1001.0)
    assert not any(isinstance(action, SetSystemKeepalive) for action in host.hand_in(Tick(), 1015.0))


def test_a_restore_that_breaks_is_answered() -> None:
    host = started(RULES)
    (answer,) = host.decider.decide(Failed(RestoreSettings(asker=ASKER), ValueError("?")), 1001.0)
    assert isinstance(answer, Answer)


def test_what_was_armed_for_who_asked_is_seen_by_a_scan_at_once() -> None:
    host = started(quiet_since=990.0)
    (action,) = host.decider.decide(Asked(ASKER, ArmThis(1)), 1001.0)
    assert not isinstance(action, LogOutcome | Notify | Abandon | EndDaemon)
    host.decider.decide(Done(action, (Outcome(action),)), 1001.0)
    host.decider.decide(Idle(), 1001.0)
    assert host.decider.due == 1001.0


def test_a_reload_that_fails_is_answered_with_what_is_wrong() -> None:
    host = started()
    host.decider.decide(Asked(ASKER, ReloadNow()), 1001.0)
    for action in host.decider.decide(Failed(LoadConfiguration(), ConfigError("path[1]: no timeout")), 1001.0):
        assert not isinstance(action, Answer)
    (answer,) = [each for each in host.decider.decide(Idle(), 1002.0) if isinstance(each, Answer)]
    assert str(answer.answer) == "reload failed, the old configuration stays: path[1]: no timeout"


@pytest.mark.parametrize(
    ("question", "kind"), [(ArmThis(1), Arm), (DisarmThis(1), Disarm), (ExplainThese((1,)), LookInto)]
)
def test_what_is_asked_about_a_connection_is_done_for_who_asks_and_answered(
    question: Question, kind: type[Arm | Disarm | LookInto]
) -> None:
    host = started(quiet_since=990.0)
    (action,) = host.decider.decide(Asked(ASKER, question), 1001.0)
    assert isinstance(action, kind)
    assert action.asker == ASKER
    assert [one.cookie for one in action.connections] == [1]
    outcome = Outcome(action, refused=KernelError("no"))
    answers = [each for each in host.decider.decide(Done(action, (outcome,)), 1002.0) if isinstance(each, Answer)]
    assert answers == [Answer(ASKER, outcome.refused)]


@pytest.mark.parametrize("question", [ArmThis(2), DisarmThis(2), ExplainThese((2,))])
def test_a_connection_that_the_last_scan_has_not_found_is_not_touched(question: Question) -> None:
    (answer,) = asked(started(quiet_since=990.0), question)
    assert isinstance(answer, Answer)
    assert "no watched connection with this cookie" in str(answer.answer)


def test_an_interval_that_does_not_fit_the_idle_time_is_refused() -> None:
    (answer,) = asked(started(quiet_since=990.0), ArmThis(1, idle=10))
    assert isinstance(answer, Answer)
    assert "interval 20s is longer than idle 10s" in str(answer.answer)


def test_an_order_that_fails_for_a_reason_that_nobody_foresaw_is_answered_and_the_watch_goes_on() -> None:
    host = started(quiet_since=990.0)
    (action,) = host.decider.decide(Asked(ASKER, ExplainThese((1,))), 1001.0)
    assert isinstance(action, LookInto)
    (answer,) = host.decider.decide(Failed(action, ZeroDivisionError()), 1001.0)
    assert isinstance(answer, Answer)
    assert "a defect of the program" in str(answer.answer)
    assert host.decider.status.blind == ""


def test_while_the_daemon_stops_nothing_is_done_for_anybody() -> None:
    host = started(quiet_since=990.0)
    host.decider.decide(Stop(), 1001.0)
    (answer,) = host.decider.decide(Asked(ASKER, ArmThis(1)), 1001.0)
    assert isinstance(answer, Answer)
    assert str(answer.answer) == "the daemon is about to stop"
