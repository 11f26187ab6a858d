"""What keepalivectl why explains, for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keepaliveD.cli.why import forgotten, page
from keepaliveD.cli.why.forgotten import Forgotten, Gone
from keepaliveD.cli.why.solutions import Solution
from keepaliveD.model.explained import Explained

FORMAT = 1  # of the JSON; another number means that a key has another meaning, or is gone


def as_json(
    explained: Sequence[Explained],
    plain: Sequence[Mapping[str, Any]],
    ended: Forgotten,
    solution: Solution,
    file: Path,
    **told: object,
) -> str:
    """Return an object: what is `told` of the whole, each connection as the control socket explains it, and more.

    Times are seconds, null is unknown or never. `solution` would go into `file`.
    """
    connections = [{**its, **_besides(one, ended)} for one, its in zip(explained, plain, strict=True)]
    concerned = {
        gone: None for its in explained for gone in (*ended.with_peer(its.connection), *ended.of_unit(its.connection))
    }
    remedy = {"file": str(file), "lines": solution.lines} if solution.helps else None
    return json.dumps(
        {
            "version": FORMAT,
            **told,
            "connections": connections,
            "deaths": [_death(each) for each in sorted(concerned, key=lambda gone: gone.when, reverse=True)],
            "deaths_hidden": ended.hidden,
            "remedy": remedy,
        },
        indent=1,
    )


def _besides(its: Explained, ended: Forgotten) -> dict[str, object]:
    """Return what the page says of a connection besides what the control socket does."""
    return {
        "changed_since_scan": page.outdated(its),
        "safe_by_guess": page.rests_on_guess(its),
        "contradicted_by": forgotten.count(ended.against(its.connection)),
    }


def _death(gone: Gone) -> dict[str, object]:
    return {
        "when": gone.when,
        "count": gone.number,
        "unit": gone.unit,
        "peer": gone.peer,
        "silence": None if math.isnan(gone.silence) else gone.silence,
        "timeout": None if math.isnan(gone.timeout) else gone.timeout,
    }
