"""The connections as a running daemon sees them: it has watched for longer, so more of its verdicts are certain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.cli.asking.asking import ask, control_socket, every
from keepaliveD.cli.worker import in_worker
from keepaliveD.model.connections import AT_RISK, Connection
from keepaliveD.model.duration import span
from keepaliveD.model.errors import KernelError
from keepaliveD.model.plain import restored
from keepaliveD.model.rules import ArmRule, Watching
from keepaliveD.model.sockets import Unwatched
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import find_owners

ONLY_OWNERS = Watching("netlink", all_namespaces=False)  # a session that opens soonest


class View(NamedTuple):
    """Connections, the most urgent first, with their owners; what is not watched; and whose view that is, or "".

    `netns` is the network namespace of who has scanned.
    Where none is selected by its owner, `near` is the end of a sentence that offers what may have been meant, or "".
    """

    connections: Sequence[Connection]
    unwatched: Unwatched
    whose: str
    netns: int
    near: str = ""


def look(root: Path, platform: Platform, selector: ArmRule, namespaces: Sequence[int]) -> View:
    """Ask the daemon for the connections that are wanted, whoever their owners are, and find their owners.

    Raises NoInput where no daemon can be asked, NotPermitted, KernelError.
    """
    path = control_socket(root)
    status = ask(path, "Status")
    last_scan(status)
    found: list[Connection] = []
    age = 0.0
    for answer in every(path, "ListConnections", _filters(selector, namespaces)):
        try:
            found += [restored(one) for one in answer["connections"]]
            age = answer["age"] or 0.0
        except (KeyError, TypeError, ValueError) as error:
            raise KernelError(f"{path}: the daemon is of another version: {error}") from error
    with in_worker(platform.open, ONLY_OWNERS) as asking:
        named = asking(find_owners(found))
    with_units = [_with_unit(one, before.owner.unit) for one, before in zip(named, found, strict=True)]
    said = f"{whose(status, age, 'connections')}; packets since then are not counted"
    return View(sorted(with_units, key=_urgency), unwatched(status["unwatched"]), said, status["netns"])


def last_scan(status: Mapping[str, Any]) -> float:
    """Return how many seconds ago the daemon scanned. Raises KernelError where it has not yet: it knows nothing."""
    if not status["scan"]:
        raise KernelError("the daemon has not scanned yet")
    return float(status["scan"]["ago"])


def whose(status: Mapping[str, Any], age: float, what: str) -> str:
    """Return whose view is printed: of what, by which daemon, and how many seconds old."""
    return f"these are the {what} as of the last scan by tcp-keepalived (process {status['pid']}), {span(age)} ago"


def _filters(selector: ArmRule, namespaces: Sequence[int]) -> dict[str, Any]:
    """Return the selectors that need no owner as parameters."""
    filters: dict[str, Sequence[object]] = {
        "verdicts": [verdict.label for verdict in selector.verdicts],
        "paths": selector.paths,
        "peers": [str(network) for network in selector.networks],
        "ports": selector.ports,
        "users": selector.users,
        "namespaces": namespaces,
    }
    return {name: list(values) for name, values in filters.items() if values}


def _with_unit(one: Connection, unit: str) -> Connection:
    """Return the connection with the unit that the daemon knows, where it cannot be found here."""
    return one if one.owner.unit or not unit else one.with_owner(dataclasses.replace(one.owner, unit=unit))


def _urgency(one: Connection) -> tuple[bool, float]:
    return one.verdict not in AT_RISK, math.inf if math.isnan(one.left) else one.left


def unwatched(told: Mapping[str, Any]) -> Unwatched:
    """Return which network namespaces a daemon does not watch, of its answer to Status."""
    listed = {name: tuple(told[name]) for name in ("silent", "crowded", "incomplete")}
    return Unwatched(**{**told, **listed})
