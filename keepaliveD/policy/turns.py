"""Whose connections are seen to first, where there are more than can be: the most urgent, but each user's in turn.

Otherwise whoever opens thousands of connections that seem urgent would keep those of others from ever being seen to.
"""

from __future__ import annotations

import numpy as np

from keepaliveD.model.sockets import Column, Indices, SocketTable


def owners(table: SocketTable, rows: Indices) -> Column:
    """Return a number for whoever has his turn: a user, here or in the network namespaces of others."""
    sockets = table.sockets
    is_here = sockets["netns"][rows] == table.netns
    numbers: Column = sockets["uid"][rows].astype(np.uint64) * np.uint64(2) + is_here
    return numbers


def first(left: Column, owner: Column, most: int) -> Indices:
    """Return at which positions to begin, at most so many, by the seconds `left` of each: of every owner, one in turn.

    Those that are in the same turn are in the order of their urgency.
    """
    if len(left) > most and (owner == owner[0]).all():  # nearly always, and far cheaper
        some = np.argpartition(left, most)[:most]
        return some[np.argsort(left[some])]
    by_owner = np.lexsort([left, owner])
    begins = np.ones(len(left), np.bool_)
    begins[1:] = owner[by_owner[1:]] != owner[by_owner[:-1]]
    place = np.arange(len(left))
    turn = np.empty(len(left), np.intp)
    turn[by_owner] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return np.lexsort([left, turn])[:most]
