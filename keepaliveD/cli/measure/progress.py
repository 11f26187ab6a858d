"""How far a measurement is, on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from keepaliveD.model.duration import span

if TYPE_CHECKING:
    from keepaliveD.measuring.measurement import Measurement
    from keepaliveD.measuring.tomography import Tomography


def say(*lines: str) -> None:
    """Print lines at once."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


class Progress:
    """What is known so far and the time left: a line that changes on a terminal, elsewhere a line for each round."""

    def __init__(self, measurement: Measurement, tomography: Tomography | None = None) -> None:
        self._measurement, self._tomography = measurement, tomography
        self._terminal = sys.stderr.isatty()
        self._width = 0
        self._round = -1

    def show(self) -> None:
        """Show it, if it is new to whoever reads."""
        if not self._terminal and self._round == self._measurement.rounds:
            return
        self._round = self._measurement.rounds
        line = self._line()
        if self._terminal:
            print(f"\r{line.ljust(self._width)}", end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            say(line)

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._terminal:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        measurement, tomography = self._measurement, self._tomography
        line = "which hop forgets" if tomography else f"round {measurement.rounds + 1}"
        if left := (tomography or measurement).left:
            line += f", at most {span(left)} left"
        bracket = measurement.bracket
        if bracket.survived is not None:
            line += f"; survived {span(bracket.survived)}"
        if bracket.forgotten is not None and bracket.unheard is None:
            line += f"; forgotten by {span(bracket.forgotten)}"
        return line
