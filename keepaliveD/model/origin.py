"""Where the idle timeout of a path comes from, and so how far to trust it."""

from __future__ import annotations

import enum

from keepaliveD.model.dataclass import dataclass


class Source(enum.Enum):
    """Where an idle timeout comes from, the most trusted first."""

    CONFIGURED = "configured"  # a person wrote it down
    MEASURED = "measured"  # keepalivectl measure found it, on a date
    FIREWALL = "firewall"  # this host's own firewall says it
    PRESET = "preset"  # the factory default of a product that a person named
    EVIDENCE = "evidence"  # connections survived silences, or died in them
    PLATFORM = "platform"  # the factory default of the cloud that this host runs in
    GUESS = "guess"  # nothing is known


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of an idle timeout; `detail` is the file, date, preset, observation or platform."""

    source: Source
    detail: str = ""

    @property
    def guessed(self) -> bool:
        """Whether nobody has said anything about this very path."""
        return self.source in (Source.PLATFORM, Source.GUESS)

    @property
    def presumed(self) -> bool:
        """Whether it is a guess, or what some connections have shown: nobody has said it of all."""
        return self.guessed or self.source is Source.EVIDENCE

    def __str__(self) -> str:
        match self.source:
            case Source.CONFIGURED:
                return f"configured in {self.detail}"
            case Source.MEASURED | Source.PRESET:
                return f"{self.source.value} {self.detail}"
            case Source.FIREWALL:
                return f"this host's own firewall ({self.detail})"
            case Source.EVIDENCE:
                return f"evidence: {self.detail}"
            case Source.PLATFORM:
                return f"guess: {self.detail}"
            case Source.GUESS:
                return "guess: watch.default_timeout"
