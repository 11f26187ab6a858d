"""Decide which rules the kernel can follow at connect, when neither process nor verdict is known."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Sequence, Sized

from keepaliveD.model.connections import Owner, WhatCounts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import TIMER_SLACK
from keepaliveD.model.rules import ArmAction, ArmRule, IPNetwork, Path
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming.arming import matches_owner
from keepaliveD.policy.arming.meaning import ENOUGH
from keepaliveD.policy.verdicts.paths import by_specificity

MOST_OPENINGS = MOST_ROUTES = 256  # that the kernel's program holds
MOST_PATHS = 64  # that a rule may select from: a bit each
MOST_OWNERS = 62  # rules that ask for units or containers: a bit each, of which two are taken
LONGEST = 2**31 - 1  # seconds that the program can count
ALL_PATHS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Route:
    """A network (None: any) and a port of either end (0: any) that lead to a path.

    `path` is the path's bit in `Opening.paths`. `room` is the time in seconds within which a probe must
    leave, however late its timer fires. Without it new connections are left to the next scan.
    """

    network: IPNetwork | None
    port: int
    path: int
    room: float | None

    @property
    def below(self) -> int:
        """Return the longest idle time in whole seconds that is safe."""
        return math.ceil(self.room or 0) - 1

    @property
    def third(self) -> int:
        """Return the longest interval in whole seconds after which enough probes fit."""
        return int((self.room or 0) / (ENOUGH + 1))


@dataclass(frozen=True, slots=True)
class Opening:
    """What to do with a new connection to `network` (None: any), of `port` at either end (0: any).

    `paths` has a bit for each path that is concerned. Where there is an `owner`, only sockets of the
    cgroups that this rule means by unit and container are concerned. Without a `rule` the connection is
    left to the next scan. `number` is the rule's, in the order of the configuration.
    """

    network: IPNetwork | None
    port: int
    rule: ArmRule | None
    number: int = 0
    owner: ArmRule | None = None
    paths: int = ALL_PATHS

    def matches_owner(self, owner: Owner) -> bool:
        """Return whether the opening concerns sockets of a cgroup with this unit and container."""
        return self.owner is None or matches_owner(self.owner, owner)

    @property
    def concerns_all(self) -> bool:
        """Return whether the opening concerns every connection, so that no later opening is reached."""
        return self.network is None and not self.port and self.owner is None and self.paths == ALL_PATHS


@dataclass(frozen=True, slots=True)
class ConnectPlan:
    """The plan of the kernel's program: the first route and the first opening that match apply.

    `followed` are the numbers of the rules that arm at connect. `cut` says which connections are left
    because there was no room, and why.
    """

    routes: tuple[Route, ...] = ()
    openings: tuple[Opening, ...] = ()
    followed: frozenset[int] = frozenset()
    cut: tuple[str, ...] = ()


def plan(rules: Sequence[ArmRule], ignore: Sequence[IPNetwork], paths: Sequence[Path]) -> ConnectPlan:
    """Follow the rules in their order, as far as the program has room for them.

    A rule that asks for more than can be known may concern any connection that suits the rest. These
    connections are left, or a later rule would overtake it; and those of rules that do not enable, too.
    """
    if not any(map(_enables, rules)):
        return ConnectPlan()
    routes, bits, cut = _routes(paths)
    forgetting = {route.path for route in routes if route.room}
    found = [Opening(network, 0, None) for network in ignore]
    followed: set[int] = set()
    owners = 0
    for number, rule in enumerate(rules):
        concerned = {bit for bit, path in bits.items() if _names(rule, path)}
        new = list(_openings(rule, number, ALL_PATHS if not rule.paths else sum(1 << bit for bit in concerned)))
        owners += any(opening.owner for opening in new)
        if len(found) + len(new) >= MOST_OPENINGS or owners > MOST_OWNERS:
            found[MOST_OPENINGS - 1 :] = [Opening(None, 0, None)]
            cut = (
                *cut,
                f"new connections that rule {rule.name} or a later one matches are armed at the next scan: "
                f"{_limit(owners)}",
            )
            break
        found += new
        if _enables(rule) and concerned & forgetting:
            followed.add(number)
        if any(opening.concerns_all for opening in new):
            break
    return ConnectPlan(tuple(routes), tuple(found), frozenset(followed), cut) if followed else ConnectPlan(cut=cut)


def decided(rule: ArmRule) -> bool:
    """Return whether the rule asks for nothing but networks, ports, paths and what a cgroup tells."""
    return not (rule.processes or rule.users or rule.verdicts)


def _enables(rule: ArmRule) -> bool:
    return rule.action is ArmAction.ENABLE and decided(rule)


def _names(rule: ArmRule, path: Path) -> bool:
    return not rule.paths or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in rule.paths)


def _limit(owners: int) -> str:
    if owners > MOST_OWNERS:
        return f"more than {MOST_OWNERS} rules select by unit or container"
    return f"watch.ignore and [[arm]] name more than {MOST_OPENINGS} networks and ports"


def _routes(paths: Sequence[Path]) -> tuple[list[Route], dict[int, Path], tuple[str, ...]]:
    """The routes to the paths, most specific first; each path by its bit; and what there was no room for.

    Which interface a connection takes is not known yet, so what may take a path that is selected by it
    is left.
    """
    routes: list[Route] = []
    bits: dict[int, int] = {}
    for index, network in by_specificity(paths):
        path = paths[index]
        ports = path.ports or (0,)
        if len(routes) + len(ports) >= MOST_ROUTES or (index not in bits and len(bits) == MOST_PATHS):
            routes.append(Route(None, 0, 0, None))
            cut = (
                f"new connections on path {quoted(path.name)} or a less specific one are armed at the next scan: "
                f"{_too_many(bits)}",
            )
            return routes, {bit: paths[index] for index, bit in bits.items()}, cut
        bit = bits.setdefault(index, len(bits))
        certain = not path.interface and path.timeout != FOREVER and path.counts is WhatCounts.PACKETS
        room = min(path.timeout / (1 + TIMER_SLACK), LONGEST) if certain else None
        routes += [Route(network, port, bit, room) for port in ports]
    return routes, {bit: paths[index] for index, bit in bits.items()}, ()


def _too_many(bits: Sized) -> str:
    if len(bits) == MOST_PATHS:
        return f"there are more than {MOST_PATHS} paths"
    return f"paths name more than {MOST_ROUTES} networks and ports"


def _openings(rule: ArmRule, number: int, paths: int) -> Iterator[Opening]:
    if not paths:
        return
    owner = dataclasses.replace(rule, processes=()) if rule.units or rule.containers else None
    for network in rule.networks or (None,):
        for port in rule.ports or (0,):
            yield Opening(network, port, rule if _enables(rule) else None, number, owner, paths)
