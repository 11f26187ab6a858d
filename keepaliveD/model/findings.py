"""What the silences of connections say of a path's idle timeout, where that is not what is assumed."""

from __future__ import annotations

import math

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import span
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.routes import Route
from keepaliveD.model.rules import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence that contradicts the timeout of a path, which `is_shorter` than assumed, or longer. Seconds.

    `survived` is the number of silences longer than the path's timeout that connections survived.
    `route` is the one that all these connections take, where connections are counted by route.
    """

    path: Path
    at_least: float
    at_most: float
    deaths: int
    survived: int
    is_shorter: bool
    route: Route | None = None

    @property
    def shortens(self) -> bool:
        """Whether verdicts follow it: it is shorter than a guess. What a person has said is never overruled.

        None follows what holds for one route: connections of others are in the same path.
        """
        return self.is_shorter and self.path.origin.guessed and self.route is None

    @property
    def timeout(self) -> float:
        """Return the timeout that is safe to assume, in whole seconds."""
        return float(math.floor(self.at_least))

    @property
    def origin(self) -> Origin:
        """Return where that comes from."""
        if self.is_shorter:
            said = f"{self.deaths} connections died in silences of {span(self.at_least)} or more"
        else:
            said = f"connections survived {self.survived} silences longer than {span(self.path.timeout)}"
        return Origin(Source.EVIDENCE, said)
