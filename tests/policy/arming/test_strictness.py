"""What stands is never weakened: a dead peer is noticed no later, and no shorter outage ends a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.model.keepalive import MAX_PROBES, Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.policy.arming.strictness import keep_stricter, strictest

WANTED = Keepalive(180, 20, 31)
KERNEL = Keepalive(7200, 75, 9)


@pytest.mark.parametrize(
    ("stands", "result"),
    [
        (KERNEL, WANTED),
        (WANTED, WANTED),
        (Keepalive(60, 10, 5), Keepalive(60, 10, 5)),
        (Keepalive(60, 75, 9), Keepalive(60, 20, 31)),
        (Keepalive(60, 75, 3), Keepalive(60, 20, 11)),
        (Keepalive(7200, 10, 9), Keepalive(180, 10, 31)),
        (Keepalive(600, 10, 200), Keepalive(180, 10, MAX_PROBES)),
    ],
)
def test_the_shorter_times_hold_and_the_number_of_probes_suits_them(stands: Keepalive, result: Keepalive) -> None:
    """180/20/31 is as good as the kernel's own values in both respects, and 60/10/5 needs nothing."""
    assert strictest(stands, WANTED) == result


@pytest.mark.parametrize(
    ("stands", "result"),
    [
        (Keepalive(0, 75, 9), WANTED),
        (Keepalive(-1, -1, 9), WANTED),
        (Keepalive(60, 10, 0), Keepalive(60, 10, 31)),
        (Keepalive(-1, 10, 9), Keepalive(180, 10, 31)),
    ],
)
def test_zero_and_less_are_no_times_and_no_number_of_probes(stands: Keepalive, result: Keepalive) -> None:
    """A kernel takes them for "at once" and "never": nothing that protects a connection."""
    assert strictest(stands, WANTED) == result


SETTINGS = st.builds(Keepalive, st.integers(1, 40000), st.integers(1, 40000), st.integers(1, MAX_PROBES))


def outage(keepalive: Keepalive) -> int:
    return (keepalive.probes - 1) * keepalive.interval


def dead_after(keepalive: Keepalive) -> int:
    return keepalive.idle + keepalive.probes * keepalive.interval


@given(SETTINGS, SETTINGS)
def test_nothing_is_weakened(stands: Keepalive, wanted: Keepalive) -> None:
    """For whatever stands and whatever is wanted, unless it would need more probes than there can be."""
    result = strictest(stands, wanted)
    assert result.idle == min(stands.idle, wanted.idle)
    assert result.interval == min(stands.interval, wanted.interval)
    assert 1 <= result.probes <= MAX_PROBES
    assert result.probes == MAX_PROBES or outage(result) >= outage(stands)
    fewer = result._replace(probes=result.probes - 1)
    assert dead_after(result) <= dead_after(stands) or outage(fewer) < outage(stands)


ROLES = Roles("time", "intvl", "probes")


def kept(stands: Keepalive, wanted: Keepalive) -> Keepalive:
    """What a system's settings become."""
    found, configured = (dict(zip(ROLES, each, strict=True)) for each in (stands, wanted))
    result = keep_stricter(found, configured, ROLES)
    return Keepalive(*(result[role] for role in ROLES))


@pytest.mark.parametrize(
    ("stands", "result"),
    [
        (Keepalive(60, 75, 127), Keepalive(60, 75, 127)),
        (Keepalive(100, 75, 60), Keepalive(100, 36, 127)),
        (Keepalive(7200, 10, 127), Keepalive(180, 10, 127)),
        (Keepalive(60, 10, 5), Keepalive(60, 10, 5)),
        (KERNEL, WANTED),
        (Keepalive(7200, 75, 60), WANTED),
    ],
)
def test_where_a_stricter_time_stands_a_system_survives_no_outage_for_less_long(
    stands: Keepalive, result: Keepalive
) -> None:
    """A kernel takes 127 probes at most, so the interval is as long as it takes."""
    assert kept(stands, WANTED) == result


@given(SETTINGS, SETTINGS)
def test_to_keep_what_is_stricter_again_changes_nothing(stands: Keepalive, wanted: Keepalive) -> None:
    """A daemon that starts anew finds what it brought about."""
    result = kept(stands, wanted)
    assert kept(result, wanted) in (result, wanted)


@given(SETTINGS, SETTINGS)
def test_to_ask_again_changes_nothing(stands: Keepalive, wanted: Keepalive) -> None:
    """What was brought about is what stands at the next look."""
    result = strictest(stands, wanted)
    again = strictest(result, wanted)
    assert again == result
