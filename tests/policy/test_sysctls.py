"""Apply, keep, yield: what becomes of the system's settings."""

from collections.abc import Mapping

import pytest

from keepaliveD.model.actions import Action, Because, FoundSettings, Outcome, SetSystemKeepalive
from keepaliveD.model.errors import NotPermitted
from keepaliveD.model.reports import Repeat, ReportDrift, ReportRewriter, ReportStricter
from keepaliveD.model.rules import OnDrift, Roles
from keepaliveD.policy.sysctls import SystemKeepalive

WANTED = {"time": 180, "intvl": 20}
FOUND = {"time": 7200, "intvl": 75}


def found(stands: Mapping[str, int], without_us: Mapping[str, int] | None = None) -> FoundSettings:
    return FoundSettings(stands, stands if without_us is None else without_us)


def in_place(on_drift: OnDrift) -> SystemKeepalive:
    settings = SystemKeepalive(WANTED, on_drift)
    assert settings.observe(found(WANTED), 0) == []
    return settings


def test_what_is_not_in_place_is_applied() -> None:
    actions = SystemKeepalive(WANTED, OnDrift.REAPPLY).observe(found(FOUND), 0)
    assert actions == [SetSystemKeepalive(WANTED, FOUND, Because.CONFIGURED)]


def test_only_what_differs_is_written() -> None:
    actions = SystemKeepalive(WANTED, OnDrift.REAPPLY).observe(found({"time": 7200, "intvl": 20}), 0)
    assert actions == [SetSystemKeepalive({"time": 180}, {"time": 7200}, Because.CONFIGURED)]


def test_drift_is_set_back_and_names_what_was_found() -> None:
    actions = in_place(OnDrift.REAPPLY).observe(found({"time": 300, "intvl": 20}), 0)
    assert actions == [SetSystemKeepalive({"time": 180}, {"time": 300}, Because.DRIFT)]


def test_drift_is_set_back_however_often() -> None:
    settings = in_place(OnDrift.REAPPLY)
    for value in (300, 400, 300):
        assert len(settings.observe(found({"time": value, "intvl": 20}), 0)) == 1
        assert settings.observe(found(WANTED), 0) == []


def test_who_yields_says_so_once_and_for_good() -> None:
    settings = in_place(OnDrift.YIELD)
    assert settings.observe(found({"time": 300, "intvl": 20}), 0) == [
        ReportDrift({"time": 180}, {"time": 300}, yielded=True)
    ]
    assert settings.observe(found({"time": 400, "intvl": 20}), 0) == []
    assert settings.observe(found({"time": 400, "intvl": 30}), 0) == [
        ReportDrift({"intvl": 20}, {"intvl": 30}, yielded=True)
    ]


def test_who_warns_says_so_at_every_change() -> None:
    settings = in_place(OnDrift.WARN)
    warned: list[Action] = [ReportDrift({"time": 180}, {"time": 300}, yielded=False)]
    assert settings.observe(found({"time": 300, "intvl": 20}), 0) == warned
    assert settings.observe(found({"time": 300, "intvl": 20}), 0) == []
    assert settings.observe(found({"time": 400, "intvl": 20}), 60) != []


def test_who_warns_says_so_again_when_the_same_value_comes_back() -> None:
    settings = in_place(OnDrift.WARN)
    for now, stands, told in ((0, {"time": 300, "intvl": 20}, 1), (15, WANTED, 0), (60, {"time": 300, "intvl": 20}, 1)):
        assert len(settings.observe(found(stands), now)) == told


def test_constant_rewriting_is_reported_at_once_and_then_as_a_count_at_growing_pauses() -> None:
    """Four times a minute somebody writes; it is set back each time, and a day has 11 entries instead of 5,760."""
    settings = in_place(OnDrift.REAPPLY)
    loud, repeats = 0, []
    for scan in range(4 * 60 * 24):
        action, *more = settings.observe(found({"time": 1000 + scan, "intvl": 20}), scan * 15.0)
        assert isinstance(action, SetSystemKeepalive)
        settings.record(Outcome(action))
        loud += not action.quiet
        repeats += more
    assert loud == 1
    assert repeats[0] == ReportRewriter({"time": 180}, {"time": Repeat(4, 1004, 60.0)}, reapplied=True)
    assert len(repeats) == 10


def test_what_was_not_reported_is_reported_although_it_does_not_happen_again() -> None:
    """The count would stay unknown else."""
    settings = in_place(OnDrift.WARN)
    settings.observe(found({"time": 300, "intvl": 20}), 0)
    assert settings.observe(found({"time": 400, "intvl": 20}), 15) == []
    (report,) = settings.observe(found({"time": 400, "intvl": 20}), 60)
    assert report == ReportRewriter({"time": 180}, {"time": Repeat(1, 400, 60.0)}, reapplied=False)
    assert settings.observe(found({"time": 400, "intvl": 20}), 1000) == []


def test_what_was_refused_is_tried_again_at_growing_pauses_and_reported_once() -> None:
    """A disk may have room again; the reason that was told goes along with each attempt."""
    settings = SystemKeepalive(WANTED, OnDrift.REAPPLY)
    tried: list[int] = []
    for now in range(3000):
        for action in settings.observe(found(FOUND), now):
            assert isinstance(action, SetSystemKeepalive)
            assert action.refused_before == (frozenset({"full"}) if tried else frozenset())
            tried.append(now)
            settings.record(Outcome(action, refused=NotPermitted("full")))
    assert tried[:5] == [0, 1, 3, 7, 15]
    assert tried[-1] - tried[-2] == 300


def test_what_is_tried_again_was_not_changed_again() -> None:
    """Nobody has set anything meanwhile; once it is set back, that is logged."""
    settings = in_place(OnDrift.REAPPLY)
    for scan in range(40):
        for action in settings.observe(found({"time": 300, "intvl": 20}), scan * 15.0):
            assert action == SetSystemKeepalive(
                {"time": 180}, {"time": 300}, Because.DRIFT, refused_before=frozenset({"full"} if scan else ())
            )
            settings.record(Outcome(action, refused=NotPermitted("full")))


def test_what_was_refused_is_known_with_its_reason_until_it_is_in_place_or_left_to_somebody_else() -> None:
    settings = SystemKeepalive(WANTED, OnDrift.REAPPLY)
    (action,) = settings.observe(found(FOUND), 0)
    settings.record(Outcome(action, refused=NotPermitted("full")))
    assert settings.refused == {"intvl": "full", "time": "full"}
    settings.observe(found({"time": 180, "intvl": 75}), 0)
    assert settings.refused == {"intvl": "full"}
    settings.leave(["intvl"])
    assert settings.refused == {}


# stricter settings


ROLES = Roles("time", "intvl", "probes")
CONFIGURED = {"time": 180, "intvl": 20, "probes": 31}
KERNEL = {"time": 7200, "intvl": 75, "probes": 9}
STRICTER = {"time": 60, "intvl": 10, "probes": 5}


def test_stricter_settings_are_kept_and_reported_once() -> None:
    settings = SystemKeepalive(CONFIGURED, OnDrift.REAPPLY, ROLES)
    assert settings.observe(found(STRICTER), 0) == [ReportStricter(CONFIGURED, STRICTER)]
    assert settings.observe(found(STRICTER), 15) == []


def test_a_stricter_time_is_kept_and_the_others_suit_it() -> None:
    settings = SystemKeepalive(CONFIGURED, OnDrift.REAPPLY, ROLES)
    told, action = settings.observe(found(KERNEL | {"time": 60}), 0)
    assert told == ReportStricter({"time": 180}, {"time": 60})
    assert action == SetSystemKeepalive({"intvl": 20, "probes": 31}, {"intvl": 75, "probes": 9}, Because.CONFIGURED)


def test_what_counts_is_what_would_stand_without_us() -> None:
    """Ours of an earlier configuration is nobody's choice."""
    settings = SystemKeepalive(CONFIGURED, OnDrift.REAPPLY, ROLES)
    (action,) = settings.observe(found(STRICTER, without_us=KERNEL), 0)
    assert action == SetSystemKeepalive(CONFIGURED, STRICTER, Because.CONFIGURED)


def test_somebody_who_sets_stricter_settings_later_is_heard_where_ours_would_be_reapplied() -> None:
    """After a restart they would be kept, too."""
    settings = SystemKeepalive(CONFIGURED, OnDrift.REAPPLY, ROLES)
    assert settings.observe(found(CONFIGURED, without_us=KERNEL), 0) == []
    assert settings.observe(found(STRICTER), 15) == [ReportStricter(CONFIGURED, STRICTER)]
    actions = settings.observe(found(STRICTER | {"time": 600}), 30)
    assert SetSystemKeepalive({"time": 180}, {"time": 600}, Because.DRIFT) in actions


@pytest.mark.parametrize("on_drift", [OnDrift.YIELD, OnDrift.WARN])
def test_where_drift_is_left_alone_stricter_or_not_makes_no_difference(on_drift: OnDrift) -> None:
    settings = SystemKeepalive(CONFIGURED, on_drift, ROLES)
    assert settings.observe(found(CONFIGURED, without_us=KERNEL), 0) == []
    (report,) = settings.observe(found(STRICTER), 15)
    assert report == ReportDrift(CONFIGURED, STRICTER, yielded=on_drift is OnDrift.YIELD)


def test_what_cannot_be_written_is_not_tried_at_every_scan() -> None:
    settings = SystemKeepalive(WANTED, OnDrift.REAPPLY)
    (action,) = settings.observe(found(FOUND), 0)
    settings.record(Outcome(action, refused=NotPermitted("no")))
    assert settings.observe(found(FOUND), 0) == []
    assert settings.observe(found({"time": 600, "intvl": 75}), 0) != []


def test_a_dry_run_says_what_it_would_do_only_once() -> None:
    settings = SystemKeepalive(WANTED, OnDrift.REAPPLY)
    (action,) = settings.observe(found(FOUND), 0)
    settings.record(Outcome(action, dry_run=True))
    assert settings.observe(found(FOUND), 0) == []


def test_nothing_wanted_is_nothing_done() -> None:
    assert SystemKeepalive({}, OnDrift.REAPPLY).observe(found({}), 0) == []
