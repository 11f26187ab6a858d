"""Whose connections are seen to first, where there are more than can be: the most urgent, but each user's in turn.

Otherwise whoever opens thousands of connections that seem urgent would keep those of others from ever being seen to.
"""

from __future__ import annotations

import numpy as np

from keepaliveD.model.sockets import Column, Indices, SocketTable

FEW = 64  # users: with more of them all their connections are sorted
ROOT = 2  # the numbers of root are below
NOBODY = 2**33  # the numbers of users are below


def owners(table: SocketTable, rows: Indices) -> Column:
    """Return a number for whoever has his turn: a user, here or in the network namespaces of others, or nobody.

    Of a socket that no process holds, sock_diag(7) says that it is root's.
    """
    sockets = table.sockets
    numbers: Column = sockets["uid"][rows].astype(np.uint64)
    numbers *= 2
    numbers += sockets["netns"][rows] == table.netns
    numbers[(numbers < ROOT) & (sockets["inode"][rows] == 0)] = NOBODY
    return numbers


def shared(table: SocketTable, rows: Indices, most: int) -> Indices:
    """Return at most so many of these rows, in the same order, which is that of their urgency: of each user, in turn.

    Root comes first in each turn, because there may be more users than rows.
    """
    if len(rows) <= most:
        return rows
    owner = owners(table, rows)
    place = 2 * _turns(owner, np.argsort(owner, kind="stable")) + (owner >= ROOT)
    place = place * len(rows) + np.arange(len(rows))
    return rows[np.sort(np.argpartition(place, most)[:most])]


def first(left: Column, owner: Column, most: int) -> Indices:
    """Return at which positions to begin, at most so many, by the seconds `left` of each: of every owner, one in turn.

    Those that are in the same turn are in the order of their urgency.
    """
    rows = _most_urgent(left, owner, most)
    left, owner = left[rows], owner[rows]
    chosen: Indices = rows[np.lexsort([left, _turns(owner, np.lexsort([left, owner]))])[:most]]
    return chosen


def _turns(owner: Column, by_owner: Indices) -> Indices:
    """Return in which turn of its owner each position is, from 0; `by_owner` has the positions of each together."""
    begins = np.ones(len(owner), np.bool_)
    begins[1:] = owner[by_owner[1:]] != owner[by_owner[:-1]]
    place = np.arange(len(owner))
    turn = np.empty(len(owner), np.intp)
    turn[by_owner] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return turn


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
