"""Whose connections are seen to first, where there are more than can be: the most urgent, but each user's in turn.

Otherwise whoever opens thousands of connections that seem urgent would keep those of others from ever being seen to.
"""

from __future__ import annotations

import numpy as np

from keepaliveD.model.sockets import Column, Indices, SocketTable

FEW = 64  # users: with more of them all their connections are sorted


def owners(table: SocketTable, rows: Indices) -> Column:
    """Return a number for whoever has his turn: a user, here or in the network namespaces of others."""
    sockets = table.sockets
    numbers: Column = sockets["uid"][rows].astype(np.uint64)
    numbers *= 2
    numbers += sockets["netns"][rows] == table.netns
    return numbers


def first(left: Column, owner: Column, most: int) -> Indices:
    """Return at which positions to begin, at most so many, by the seconds `left` of each: of every owner, one in turn.

    Those that are in the same turn are in the order of their urgency.
    """
    rows = _most_urgent(left, owner, most)
    left, owner = left[rows], owner[rows]
    by_owner = np.lexsort([left, owner])
    begins = np.ones(len(left), np.bool_)
    begins[1:] = owner[by_owner[1:]] != owner[by_owner[:-1]]
    place = np.arange(len(left))
    turn = np.empty(len(left), np.intp)
    turn[by_owner] = place - np.maximum.accumulate(np.where(begins, place, 0))
    chosen: Indices = rows[np.lexsort([left, turn])[:most]]
    return chosen


def _most_urgent(left: Column, owner: Column, most: int) -> Indices:
    """Return the positions without those of whoever has more urgent ones enough: to sort them all takes far longer."""
    if len(left) <= most:
        return np.arange(len(left))
    if (owner == owner[0]).all():
        return np.argpartition(left, most)[:most]
    owners = np.unique(owner)
    if len(owners) > FEW:
        return np.arange(len(left))
    parts = [np.flatnonzero(owner == each) for each in owners]
    return np.concatenate(
        [part[np.argpartition(left[part], most)[:most]] if len(part) > most else part for part in parts]
    )
