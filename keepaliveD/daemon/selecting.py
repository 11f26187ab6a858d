"""The filters of ListConnections: parameters go in, selectors as those of an [[arm]] rule come out.

A filter has few values, each of them short: what one call costs is bounded.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TypeVar

from keepaliveD.config.units import with_suffix
from keepaliveD.daemon.varlink import Parameters, invalid
from keepaliveD.model.plain import VERDICTS
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.policy.listing import Selection

FILTERS = dict.fromkeys(("units", "verdicts", "paths", "peers", "ports", "users", "namespaces"), list)
MOST = 16  # values of a filter
LONGEST = 256  # characters of one
MAX_PORT = 65535
MAX_NUMBER = 2**32 - 1  # of a user, or the inode of a namespace

Value = TypeVar("Value")


def selection(parameters: Parameters) -> Selection:
    """Return which connections are wanted. Raises Refused."""

    def values(name: str, kind: type, made: Callable[..., Value]) -> tuple[Value, ...]:
        given = parameters.get(name, [])
        if len(given) > MOST or not all(type(value) is kind and len(str(value)) <= LONGEST for value in given):
            raise invalid(name)
        try:
            return tuple(made(value) for value in given)
        except (ValueError, KeyError):
            raise invalid(name) from None

    rule = ArmRule(
        "",
        ArmAction.OBSERVE,
        None,
        1,
        1,
        units=values("units", str, with_suffix),
        verdicts=values("verdicts", str, VERDICTS.__getitem__),
        paths=values("paths", str, str),
        networks=values("peers", str, lambda text: ipaddress.ip_network(text, strict=False)),
        ports=values("ports", int, lambda number: _at_most(MAX_PORT, number)),
        users=values("users", int, lambda number: _at_most(MAX_NUMBER, number)),
    )
    return Selection(rule, values("namespaces", int, lambda number: _at_most(MAX_NUMBER, number)))


def _at_most(most: int, number: int) -> int:
    if not 0 <= number <= most:
        raise ValueError(number)
    return number
