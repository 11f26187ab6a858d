"""Which rules can be followed while a connection is being opened, when neither its owner nor its outlook is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keepaliveD.model import FOREVER, ArmAction, ArmRule, IPNetwork, Keepalive, Path
from keepaliveD.policy.arming import times


@dataclass(frozen=True, slots=True)
class Opening:
    """What to do with a new connection to `network` (None: any), of `port` at either end (0: any).

    Without `times` it is left to the next scan.
    """

    network: IPNetwork | None
    port: int
    times: Keepalive | None


def openings(rules: Sequence[ArmRule], ignore: Sequence[IPNetwork], paths: Sequence[Path]) -> list[Opening]:
    """In the order of the rules: the first that matches counts. Empty where none would arm anything.

    A rule that asks for more than networks and ports may concern any connection that suits these, so
    such connections are left; and those of rules that do not enable, too.
    """
    found = [Opening(network, 0, None) for network in ignore]
    for rule in rules:
        found += _openings(rule, _shortest(paths))
    return found if any(opening.times for opening in found) else []


def decided(rule: ArmRule) -> bool:
    """Whether networks and ports are all that it asks for."""
    return not (rule.asks_for_owner or rule.users or rule.paths or rule.verdicts)


def _openings(rule: ArmRule, timeout: float) -> Iterator[Opening]:
    wanted = times(rule, timeout) if rule.action is ArmAction.ENABLE and decided(rule) else None
    for network in rule.networks or (None,):
        for port in rule.ports or (0,):
            yield Opening(network, port, wanted)


def _shortest(paths: Sequence[Path]) -> float:
    """The timeout that an idle time must fit that is to fit all: which path it will take is not known."""
    return min((path.timeout for path in paths), default=FOREVER)
