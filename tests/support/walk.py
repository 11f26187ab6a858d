"""Arming and disarming sockets by an armer alone, as daemon/arming.py does with a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import Connection
from keepaliveD.model.results import Armed, Arming, ArmingResult
from keepaliveD.model.rules import Wish
from keepaliveD.platforms.base import Armer
from keepaliveD.policy.arming.choices import Choices, Orders, Recorded, how_to_arm, how_to_disarm, targets

Keep = Callable[[Mapping[int, Armed]], object]


class Order(NamedTuple):
    """Arm this socket as that rule wishes."""

    connection: Connection
    wish: Wish


def arm(
    armer: Armer,
    orders: Sequence[Order],
    earlier: Mapping[int, Armed],
    keep: Keep = lambda _: None,
    *,
    by_hand: bool = False,
    again: Iterable[int] = (),
) -> list[Arming]:
    """What became of each; `keep` is told how they are set before that."""
    known = Recorded(earlier, set(again))
    armings: list[Arming] = []
    wishes = list(dict.fromkeys(order.wish for order in orders))
    wish_of = np.array([wishes.index(order.wish) for order in orders], np.intp)
    left = Orders([order.connection for order in orders], wishes, wish_of)
    while left.connections:
        wanted = targets(left.connections)
        looked = armer.read(wanted, closing=False)
        choices = how_to_arm(left, wanted, looked, known, by_hand=by_hand)
        left = left.part(len(looked))
        keep(choices.to_set())
        armings += _carried_out(armer, choices, ArmingResult.ARMED, closing=False)
    return armings


def disarm(armer: Armer, connections: Sequence[Connection], armed: Mapping[int, Armed]) -> list[Arming]:
    """What became of each."""
    armings: list[Arming] = []
    while connections:
        wanted = targets(connections)
        looked = armer.read(wanted, closing=True)
        choices = how_to_disarm(connections, wanted, looked, armed)
        connections = connections[len(looked) :]
        armings += _carried_out(armer, choices, ArmingResult.DISARMED, closing=True)
    return armings


def _carried_out(armer: Armer, choices: Choices, success: ArmingResult, *, closing: bool) -> list[Arming]:
    rows, changes = choices.changes()
    done = choices.results(rows, armer.change(changes, closing=closing), success) if len(changes) else []
    return choices.left_alone() + done
