"""What can be decided while a connection is opened."""

from ipaddress import ip_network

from keepaliveD.model import FOREVER, ArmAction, ArmRule, Keepalive, Owner, Path, Verdict
from keepaliveD.policy.connect import Opening, decided, openings

TEN, LOOPBACK = ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")
OURS = Keepalive(180, 20, 31)
PATHS = (Path("default", 240.0, "test"), Path("patient", FOREVER, "test"))
ENABLE = ArmRule("all", ArmAction.ENABLE, 180, 20, 31)
DEFAULT = ArmRule("keepalive.arm", ArmAction.REARM, 180, 20, 31)


def rule(**selectors: object) -> ArmRule:
    return ArmRule("some", ArmAction.ENABLE, 180, 20, 31, **selectors)  # type: ignore[arg-type]


def test_a_rule_for_all_arms_all() -> None:
    assert openings([ENABLE, DEFAULT], (), PATHS)[0] == Opening(None, 0, OURS)


def test_networks_and_ports_are_told_apart_and_each_pair_is_one() -> None:
    found = openings([rule(networks=(TEN, LOOPBACK), ports=(22, 25)), DEFAULT], (), PATHS)
    assert found[:4] == [Opening(network, port, OURS) for network in (TEN, LOOPBACK) for port in (22, 25)]
    assert found[4:] == [Opening(None, 0, None)]


def test_ignored_networks_come_first_and_are_left_alone() -> None:
    assert openings([ENABLE], (LOOPBACK,), PATHS) == [Opening(LOOPBACK, 0, None), Opening(None, 0, OURS)]


def test_what_only_a_scan_can_decide_is_left_to_it_and_so_is_all_that_it_may_concern() -> None:
    """The first rule that matches counts, so nothing may overtake one that perhaps matches."""
    for unsure in (
        {"processes": ("psql",)},
        {"users": (5,)},
        {"paths": ("office",)},
        {"verdicts": (Verdict.BARE,)},
    ):
        first = rule(networks=(TEN,), **unsure)
        assert not decided(first)
        assert openings([first, ENABLE], (), PATHS) == [Opening(TEN, 0, None), Opening(None, 0, OURS)]


def test_units_and_containers_are_known_by_the_cgroup_of_a_socket() -> None:
    """The first rule that matches counts, so others are tried only for sockets whose cgroup is not meant."""
    backup = rule(units=("backup@*",), ports=(22,))
    guest = rule(containers=("c1",))
    assert decided(backup)
    first, second, *_ = openings([backup, guest, ENABLE, DEFAULT], (), PATHS)
    assert (first.port, first.times, second.times) == (22, OURS, OURS)
    assert [first.means(Owner(unit=unit)) for unit in ("backup@a.service", "ssh.service", "")] == [True, False, False]
    assert [second.means(Owner(container=name)) for name in ("c1", "c2")] == [True, False]


def test_a_rule_that_also_asks_for_the_process_concerns_whoever_has_the_unit() -> None:
    """So only theirs are left to the next scan."""
    (first, second) = openings([rule(units=("ssh*",), processes=("sshd",)), ENABLE], (), PATHS)
    assert first.times is None
    assert first.means(Owner(unit="ssh.service"))
    assert not first.means(Owner(unit="cron.service"))
    assert second == Opening(None, 0, OURS)


def test_where_no_rule_enables_there_is_nothing_to_do() -> None:
    """And no program has to be loaded."""
    assert openings([DEFAULT], (LOOPBACK,), PATHS) == []
    assert openings([rule(processes=("ssh*",)), DEFAULT], (), PATHS) == []


def test_an_idle_time_that_is_to_fit_the_path_fits_the_shortest() -> None:
    """Which path a connection takes is not known yet."""
    auto = ArmRule("auto", ArmAction.ENABLE, None, 20, 31)
    (opening,) = openings([auto], (), PATHS)
    assert opening.times
    assert opening.times.idle + opening.times.interval < 240
    (shorter,) = openings([auto], (), (*PATHS, Path("short", 60.0, "test")))
    assert shorter.times
    assert shorter.times.idle < 60
