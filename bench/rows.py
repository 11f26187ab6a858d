"""What was measured, beside what is required of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keepaliveD.model.origin import Origin, Source

ASSUMED = Origin(Source.GUESS)  # of the paths that are measured with


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. Without limits it is there to be read."""

    what: str
    value: float
    unit: str = ""
    at_most: float = math.inf
    at_least: float = -math.inf

    @property
    def met(self) -> bool:
        """Whether the figure is what it should be."""
        return self.at_least <= self.value <= self.at_most

    def __str__(self) -> str:
        required = f"at most {self.at_most:g}" if self.at_most < math.inf else ""
        required += f"at least {self.at_least:g}" if self.at_least > -math.inf else ""
        verdict = required and ("ok" if self.met else "MISSED")
        return f"  {self.what:<34}{self.value:>9.4g} {self.unit:<4}{required:>14}  {verdict}".rstrip()


def show(title: str, rows: Sequence[Row]) -> int:
    """Print them; the exit status is 1 where a requirement is missed."""
    print(title, *rows, sep="\n", flush=True)
    return 0 if all(row.met for row in rows) else 1
