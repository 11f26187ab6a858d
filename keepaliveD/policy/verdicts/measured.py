"""Leave out what keepalivectl measure does on purpose: its connections are quiet until the path forgets them."""

from __future__ import annotations

import dataclasses
from itertools import compress

import numpy as np

from keepaliveD.model.actions import Outcome
from keepaliveD.model.reports import ReportConnections
from keepaliveD.places import MEASURES
from keepaliveD.policy.verdicts.connections import owners_of, part


def without_measured(outcome: Outcome) -> Outcome:
    """Return what to log of an outcome: nobody is warned of connections that exist to be forgotten.

    Whoever gives a process this name hides warnings of the connections of that process alone, and no end of any.
    """
    match outcome.action:
        case ReportConnections(connections, before, unreported):
            owners, owner_of = owners_of(connections)
            others = ~np.array([owner.process == MEASURES for owner in owners], np.bool_)[owner_of]
            if others.all():
                return outcome
            left = ReportConnections(
                part(connections, others), tuple(compress(before, others)), tuple(compress(unreported, others))
            )
            return dataclasses.replace(outcome, action=left)
    return outcome
