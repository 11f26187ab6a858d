"""What is remembered of each socket from scan to scan, as plain objects: there and back.

Whoever scans beside a daemon judges by it what the daemon will judge at its next scan.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from keepaliveD.policy.answers.listing import Listed, rows_after
from keepaliveD.policy.verdicts.activity import COLUMNS, Activity

OF_ALL = tuple(each.name for each in fields(Activity) if each.name not in COLUMNS)  # one number for all sockets
FEW = 1024  # sockets in one go: that takes less than a moment of the control socket, and is about 200 kB


def some_remembered(listed: Listed, after: int | None) -> tuple[dict[str, Any], int | None]:
    """Return what is remembered of the next sockets after this cookie, and the cookie after which to go on.

    That is None at the end. Columns are base64 of their octets; `scanned_at` is the instant of the scan.
    """
    memory, rows = listed.judgement.activity, rows_after(listed, after, FEW)
    is_last = not len(rows) or rows[-1] == listed.order[-1]
    columns = {name: _told(getattr(memory, name)[rows]) for name in COLUMNS}
    columns |= {name: _told(np.array([getattr(memory, name)])) for name in OF_ALL}
    told = {"scanned_at": memory.taken_at, "columns": columns}
    return told, None if is_last else int(memory.cookie[rows[-1]])


def remembered(told: Sequence[Mapping[str, Any]]) -> Activity | None:
    """Return the memory of what was told, some sockets at a time; None where a scan came between.

    Raises LookupError, TypeError, ValueError where it is none.
    """
    instants = {float(some["scanned_at"]) for some in told}
    if len(instants) != 1:
        return None
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        columns[name] = np.concatenate([_column(some["columns"][name]) for some in told])
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("columns differ in length")
    for name in OF_ALL:
        columns[name] = float(_column(told[0]["columns"][name])[0])
    return Activity(**columns)


def _told(column: Any) -> dict[str, str]:
    return {"type": column.dtype.str, "octets": base64.b64encode(column.tobytes()).decode("ascii")}


def _column(told: Mapping[str, str]) -> Any:
    return np.frombuffer(base64.b64decode(told["octets"], validate=True), np.dtype(told["type"]))
