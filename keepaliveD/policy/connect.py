"""Which rules can be followed while a connection is being opened, when its process and its outlook are not known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keepaliveD.model import FOREVER, ArmAction, ArmRule, IPNetwork, Keepalive, Owner, Path
from keepaliveD.policy.arming import means, times


@dataclass(frozen=True, slots=True)
class Opening:
    """What to do with a new connection to `network` (None: any), of `port` at either end (0: any).

    Where there is an `owner`, it concerns only sockets of the cgroups that this rule means by unit and
    container. Without `times` the connection is left to the next scan.
    """

    network: IPNetwork | None
    port: int
    times: Keepalive | None
    owner: ArmRule | None = None

    def means(self, owner: Owner) -> bool:
        """Whether sockets of a cgroup with this unit and container are concerned."""
        return self.owner is None or means(self.owner, owner)


def openings(rules: Sequence[ArmRule], ignore: Sequence[IPNetwork], paths: Sequence[Path]) -> list[Opening]:
    """In the order of the rules: the first that matches counts. Empty where none would arm anything.

    A rule that asks for more than can be known may concern any connection that suits the rest, so such
    connections are left; and those of rules that do not enable, too.
    """
    found = [Opening(network, 0, None) for network in ignore]
    for rule in rules:
        found += _openings(rule, _shortest(paths))
    return found if any(opening.times for opening in found) else []


def decided(rule: ArmRule) -> bool:
    """Whether networks, ports and the socket's cgroup are all that it asks for."""
    return not (rule.processes or rule.users or rule.paths or rule.verdicts)


def _openings(rule: ArmRule, timeout: float) -> Iterator[Opening]:
    wanted = times(rule, timeout) if rule.action is ArmAction.ENABLE and decided(rule) else None
    owner = dataclasses.replace(rule, processes=()) if rule.units or rule.containers else None
    for network in rule.networks or (None,):
        for port in rule.ports or (0,):
            yield Opening(network, port, wanted, owner)


def _shortest(paths: Sequence[Path]) -> float:
    """The timeout that an idle time must fit that is to fit all: which path it will take is not known."""
    return min((path.timeout for path in paths), default=FOREVER)
