"""Leave out what keepalivectl measure does on purpose: its connections are quiet until the path forgets them."""

from __future__ import annotations

import dataclasses

from keepaliveD.model.actions import Outcome
from keepaliveD.model.connections import Owner
from keepaliveD.model.reports import ReportConnections
from keepaliveD.places import MEASURES


def without_measured(outcome: Outcome) -> Outcome:
    """Return what to log of an outcome: nobody is warned of connections that exist to be forgotten.

    Whoever gives a process this name hides warnings of the connections of that process alone, and no end of any.
    """
    match outcome.action:
        case ReportConnections(connections, before, unreported):
            rows = [row for row, one in enumerate(connections) if not _measures(one.owner)]
            left = ReportConnections(
                tuple(connections[row] for row in rows),
                tuple(before[row] for row in rows),
                tuple(unreported[row] for row in rows) if unreported else (),
            )
            return dataclasses.replace(outcome, action=left)
    return outcome


def _measures(owner: Owner) -> bool:
    return owner.process == MEASURES
