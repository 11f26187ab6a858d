"""What is asked of an armer, and what it answers: columns with a row for each socket, in which nothing is decided.

Keepalive of a socket is four numbers: idle time, interval, probes, and whether it is on.
"""

from __future__ import annotations

import enum

import numpy as np

FOUR = ("i4", 4)

TARGET = np.dtype([("cookie", "u8"), ("netns", "u4"), ("inode", "u4")])
LOOKED = np.dtype(
    [
        ("access", "i4"),  # Access; the rest is zero where the socket was not reached
        ("stands", *FOUR),
        ("system", *FOUR),  # of its network namespace; the last number is whether they are known
        ("inherited", "i4"),  # Own: which of `stands` follow the namespace
        ("user_timeout", "i4"),  # TCP_USER_TIMEOUT in milliseconds, 0 for none
        ("unanswered", "i4"),  # probes that the peer has not answered yet
    ]
)
CHANGE = np.dtype([*TARGET.descr, ("expected", *FOUR), ("inherited", "i4"), ("after", *FOUR)])
RESULT = np.dtype([("access", "i4"), ("stands", *FOUR)])  # what stands in the socket now


class Access(enum.IntEnum):
    """What came of a look into a socket, or of setting it."""

    DONE = 0  # looked at; or set, and read back
    CLOSED = 1
    SUBFLOW = 2
    OWNER_NOT_FOUND = 3
    OWNER_NOT_VISIBLE = 4
    NOT_PERMITTED = 5
    OTHER_USER_NAMESPACE = 6
    FAILED = 7
    CHANGED_MEANWHILE = 8  # not set: something else stands there than was expected
