"""The filters of ListConnections, and the patterns of Explain: parameters go in, a selection comes out.

A filter has few values, each of them short: what one call costs is bounded.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import TypeVar

from keepaliveD.config.units import with_suffix
from keepaliveD.daemon.control.varlink import Parameters, invalid
from keepaliveD.model.patterns import Patterns, has_wildcards
from keepaliveD.model.plain import VERDICTS
from keepaliveD.model.rules import ArmAction, ArmRule, IPNetwork
from keepaliveD.policy.answers.listing import Selection

FILTERS = dict.fromkeys(("units", "verdicts", "paths", "peers", "addresses", "ports", "users", "namespaces"), list)
MOST = 16  # values of a filter
LONGEST = 256  # characters of one, and of all patterns with wildcards of a filter: each is held against many names
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
        verdicts=values("verdicts", str, VERDICTS.__getitem__),
        networks=values("peers", str, _network),
        ports=values("ports", int, lambda number: _at_most(MAX_PORT, number)),
        users=values("users", int, lambda number: _at_most(MAX_NUMBER, number)),
    )
    return Selection(
        rule,
        values("namespaces", int, lambda number: _at_most(MAX_NUMBER, number)),
        Patterns(map(with_suffix, short("units", values("units", str, str)))),
        Patterns(short("paths", values("paths", str, str))),
        values("addresses", str, _network),
    )


def short(name: str, patterns: Sequence[str]) -> Sequence[str]:
    """Return the patterns of a parameter. Raises Refused where those with wildcards are too long together."""
    if sum(map(len, filter(has_wildcards, patterns))) > LONGEST:
        raise invalid(name)
    return patterns


def _network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text, strict=False)


def _at_most(most: int, number: int) -> int:
    if not 0 <= number <= most:
        raise ValueError(number)
    return number
