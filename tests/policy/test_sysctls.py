"""Apply, keep, yield: what becomes of the system's settings."""

from keepaliveD.errors import NotPermitted
from keepaliveD.model import Action, Because, FoundSettings, Outcome, ReportDrift, SetSystemKeepalive
from keepaliveD.policy.sysctls import OnDrift, SystemKeepalive

WANTED = {"time": 180, "intvl": 20}
FOUND = {"time": 7200, "intvl": 75}


def in_place(on_drift: OnDrift) -> SystemKeepalive:
    settings = SystemKeepalive(WANTED, on_drift)
    assert settings.observe(FoundSettings(WANTED)) == []
    return settings


def test_what_is_not_in_place_is_applied() -> None:
    actions = SystemKeepalive(WANTED, OnDrift.REAPPLY).observe(FoundSettings(FOUND))
    assert actions == [SetSystemKeepalive(WANTED, FOUND, Because.CONFIGURED)]


def test_only_what_differs_is_written() -> None:
    actions = SystemKeepalive(WANTED, OnDrift.REAPPLY).observe(FoundSettings({"time": 7200, "intvl": 20}))
    assert actions == [SetSystemKeepalive({"time": 180}, {"time": 7200}, Because.CONFIGURED)]


def test_drift_is_set_back_and_names_what_was_found() -> None:
    actions = in_place(OnDrift.REAPPLY).observe(FoundSettings({"time": 300, "intvl": 20}))
    assert actions == [SetSystemKeepalive({"time": 180}, {"time": 300}, Because.DRIFT)]


def test_drift_is_set_back_however_often() -> None:
    settings = in_place(OnDrift.REAPPLY)
    for value in (300, 400, 300):
        assert len(settings.observe(FoundSettings({"time": value, "intvl": 20}))) == 1
        settings.observe(FoundSettings(WANTED))


def test_who_yields_says_so_once_and_for_good() -> None:
    settings = in_place(OnDrift.YIELD)
    assert settings.observe(FoundSettings({"time": 300, "intvl": 20})) == [
        ReportDrift({"time": 180}, {"time": 300}, yielded=True)
    ]
    assert settings.observe(FoundSettings({"time": 400, "intvl": 20})) == []
    assert settings.observe(FoundSettings({"time": 400, "intvl": 30})) == [
        ReportDrift({"intvl": 20}, {"intvl": 30}, yielded=True)
    ]


def test_who_warns_says_so_at_every_change() -> None:
    settings = in_place(OnDrift.WARN)
    warned: list[Action] = [ReportDrift({"time": 180}, {"time": 300}, yielded=False)]
    assert settings.observe(FoundSettings({"time": 300, "intvl": 20})) == warned
    assert settings.observe(FoundSettings({"time": 300, "intvl": 20})) == []
    assert settings.observe(FoundSettings({"time": 400, "intvl": 20})) != []


def test_who_warns_says_so_again_when_the_same_value_comes_back() -> None:
    settings = in_place(OnDrift.WARN)
    for found, told in (({"time": 300, "intvl": 20}, 1), (WANTED, 0), ({"time": 300, "intvl": 20}, 1)):
        assert len(settings.observe(FoundSettings(found))) == told


def test_what_cannot_be_written_is_not_tried_at_every_scan() -> None:
    settings = SystemKeepalive(WANTED, OnDrift.REAPPLY)
    (action,) = settings.observe(FoundSettings(FOUND))
    settings.record(Outcome(action, refused=NotPermitted("no")))
    assert settings.observe(FoundSettings(FOUND)) == []
    assert settings.observe(FoundSettings({"time": 600, "intvl": 75})) != []


def test_a_dry_run_says_what_it_would_do_only_once() -> None:
    settings = SystemKeepalive(WANTED, OnDrift.REAPPLY)
    (action,) = settings.observe(FoundSettings(FOUND))
    settings.record(Outcome(action, dry_run=True))
    assert settings.observe(FoundSettings(FOUND)) == []


def test_nothing_wanted_is_nothing_done() -> None:
    assert SystemKeepalive({}, OnDrift.REAPPLY).observe(FoundSettings({})) == []
