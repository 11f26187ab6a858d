"""Connections as plain objects, for JSON: there and back. Times are seconds; null is unknown or never."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keepaliveD.model.connections import Connection, Due, Endpoint, Owner, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source

ESTABLISHED = "ESTABLISHED"
NUMBERS = ("cookie", "netns", "inode", "uid", "cgroup")
VERDICTS = {verdict.label: verdict for verdict in Verdict}
DUES = {due.label: due for due in Due}


def plain(one: Connection) -> dict[str, Any]:
    """Return a connection as a plain object."""
    return {
        "cookie": one.cookie,
        "netns": one.netns,
        "inode": one.inode,
        "uid": one.uid,
        "cgroup": one.cgroup,
        "local": plain_endpoint(one.local),
        "remote": plain_endpoint(one.remote),
        "state": one.state,
        "keepalive": one.keepalive.value,
        "verdict": one.verdict.label,
        "due": one.due.label,
        "due_in": known(one.due_in),
        "idle": known(one.idle),
        "left": known(one.left),
        "keepidle": known(one.keepidle),
        "path": one.path,
        "timeout": known(one.timeout),
        "origin": plain_origin(one.origin),
        "confirmed": one.confirmed,
        "counts": one.counts.value,
        "subflow": one.subflow,
        "unanswered_after": known(one.unanswered_after),
        "owner": plain_owner(one.owner),
    }


def from_now(one: Connection, age: float) -> Connection:
    """Return a connection with its times so many seconds later, if no packet has passed since.

    Where the path would have forgotten it by then, only `cut` is as certain as before.
    """
    confirmed = one.confirmed and (one.verdict is Verdict.CUT or not one.left <= age)
    return dataclasses.replace(
        one, due_in=one.due_in - age, idle=one.idle + age, left=one.left - age, confirmed=confirmed
    )


def plain_endpoint(end: Endpoint) -> dict[str, Any]:
    """Return one end of a connection as a plain object."""
    return {"address": end.address, "port": end.port}


def plain_origin(origin: Origin) -> dict[str, Any]:
    """Return where an idle timeout comes from as a plain object."""
    return {"source": origin.source.value, "detail": origin.detail}


def plain_owner(owner: Owner) -> dict[str, Any]:
    """Return who holds a socket as a plain object."""
    return {"pid": owner.pid, "process": owner.process, "unit": owner.unit, "container": owner.container}


def restored(made: Mapping[str, Any]) -> Connection:
    """Return the connection of a plain object. Raises KeyError, TypeError, ValueError where it is none.

    An idle timeout that is null is unknown of a connection that is being closed; else the path never forgets.
    """
    timeout = _seconds(made["timeout"], FOREVER if made["state"] == ESTABLISHED else math.nan)
    idle = _seconds(made["idle"], math.nan)
    never = math.nan if math.isnan(idle) else timeout
    return Connection(
        **{name: int(made[name]) for name in NUMBERS},
        local=_endpoint(made["local"]),
        remote=_endpoint(made["remote"]),
        state=str(made["state"]),
        keepalive=Shown(made["keepalive"]),
        verdict=VERDICTS[made["verdict"]],
        due=DUES[made["due"]],
        due_in=_seconds(made["due_in"], FOREVER),
        idle=idle,
        left=_seconds(made["left"], never if timeout == FOREVER else math.nan),
        keepidle=_seconds(made["keepidle"], math.nan),
        path=str(made["path"]),
        timeout=timeout,
        origin=Origin(Source(made["origin"]["source"]), str(made["origin"]["detail"])),
        confirmed=bool(made["confirmed"]),
        counts=WhatCounts(made["counts"]),
        subflow=bool(made["subflow"]),
        unanswered_after=_seconds(made["unanswered_after"], FOREVER),
        owner=Owner(**{field.name: made["owner"][field.name] for field in dataclasses.fields(Owner)}),
    )


def known(seconds: float) -> float | None:
    """Return a time as a plain value: null for what is not known, or never."""
    return round(seconds, 3) if math.isfinite(seconds) else None


def _seconds(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _endpoint(made: Mapping[str, Any]) -> Endpoint:
    return Endpoint(str(made["address"]), int(made["port"]))
