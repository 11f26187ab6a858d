"""Which network namespaces are not watched, in few words, and whether connections that are asked for are among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from keepaliveD.log.words import THIS_NAMESPACE

OWN = 0  # in incomplete: the own network namespace of who has scanned


def blind(told: Mapping[str, Any], own: int, asked_for: Collection[int] = ()) -> str:
    """Return which namespace of those asked for is not watched, or not completely, and why; "" if all are.

    `told` are the fields of Unwatched, `own` is the namespace of who has scanned: it is asked for unless others are.
    """
    incomplete = {own if netns == OWN else netns for netns in told["incomplete"]}
    for netns in asked_for or [own]:
        name = THIS_NAMESPACE if netns == own else f"network namespace {netns}"
        if netns in told["silent"]:
            return f"{name} is not watched: no answer"
        if netns in told["crowded"] or netns in incomplete:
            return f"{name} is not watched completely: the kernel did not tell of all its sockets"
    return ""


def summary(told: Mapping[str, Any], own: int) -> str:
    """Return which network namespaces are not watched, "" if all are."""
    silent = [netns for netns in told["silent"] if netns != own]
    partly = {*told["crowded"], *told["incomplete"]}
    others = told["forbidden"] + told["surplus"] + len(silent)
    else_where = partly - {own, OWN}
    parts = (
        THIS_NAMESPACE if own in told["silent"] else "",
        f"some sockets of {THIS_NAMESPACE}" if partly - else_where else "",
        f"{others} other network namespace{'s' * (others != 1)}" if others else "",
        "those of hidden processes" if told["hidden"] else "",
        f"some sockets of {len(else_where)} other{'s' * (len(else_where) != 1)}" if else_where else "",
    )
    return ", ".join(filter(None, parts))
