"""What the settings mean, in numbers worked out by hand."""

import pytest

from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.policy.arming.meaning import explain, probes_before, traffic

SHIPPED = Keepalive(180, 20, 31)
KERNEL = Keepalive(7200, 75, 9)


def test_the_shipped_values_survive_the_outages_that_the_kernels_survive() -> None:
    """The promise of the shipped configuration file."""
    assert explain(SHIPPED).outage == explain(KERNEL).outage == 600


def test_a_dead_peer_is_noticed_one_interval_after_the_last_probe() -> None:
    """RFC 1122 leaves it open; Linux waits an interval after each probe: 7200 + 9 x 75 s."""
    assert explain(KERNEL).dead_after == 7875
    assert explain(SHIPPED).dead_after == 800


def test_the_last_probe_leaves_an_interval_before() -> None:
    assert explain(KERNEL).last_probe == 7800


@pytest.mark.parametrize(
    ("keepalive", "timeout", "probes"),
    [
        (SHIPPED, 240, 2),  # at 202.9 and 225.4 s at the latest; the third at 247.9 s
        (SHIPPED, 202.8, 0),  # with the cut is too late
        (SHIPPED, 202.9, 1),
        (SHIPPED, 300, 5),
        (KERNEL, 300, 0),
        (Keepalive(2, 1, 2), 3600, 2),  # there are no more than two
        (SHIPPED, FOREVER, FOREVER),
    ],
)
def test_probes_count_only_if_they_surely_leave_before_the_cut(
    keepalive: Keepalive, timeout: float, probes: float
) -> None:
    assert probes_before(keepalive, timeout) == probes


def test_the_period_is_never_below_the_interval() -> None:
    """Facts 15a: the timer that fires sets itself to the interval."""
    assert explain(Keepalive(2, 75, 9)).period == 75


def test_probes_and_answers_are_counted() -> None:
    packets, bits = traffic(SHIPPED, 900)
    assert packets == 10
    assert bits == pytest.approx(10 * 66 * 8)
