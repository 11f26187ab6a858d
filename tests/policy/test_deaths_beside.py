"""Ends of which something that is seen misleads: what else they may be is named, and what they cannot be is not."""

from __future__ import annotations

import errno

import pytest

from keepaliveD.model.causes import Cause
from keepaliveD.policy.deaths import decide
from tests.support.ends import V6, Facts, ends, timed_out


@pytest.mark.parametrize("probes", [1, 3, 9])
def test_with_a_user_timeout_the_kernel_does_not_count_probes(probes: int) -> None:
    rows = ends(
        [timed_out(probes=probes, keepcnt=3, user_timeout=5000, silence=1.0, since_received=6.0, since_acked=6.0)]
    )
    assert Cause(decide(rows).cause[0]) is Cause.USER_TIMEOUT


def test_an_unseen_error_about_an_acknowledgement_is_a_routers_over_ipv4() -> None:
    """Over IPv4 the socket keeps no error of a probe that finds no route."""
    refused: Facts = {"error": errno.EHOSTUNREACH, "soft_error": errno.EHOSTUNREACH, "probes": 2}
    found = decide(ends([refused, {**refused, **V6}]))
    assert [Cause(cause) for cause in found.cause] == [Cause.UNREACHABLE, Cause.LOCAL_NETWORK]
