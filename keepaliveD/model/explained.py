"""A connection explained: what stands in its socket, what the rules come to for it, and what would help."""

from __future__ import annotations

from typing import NamedTuple

from keepaliveD.model.connections import Connection
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.keepalive import Found, Keepalive
from keepaliveD.model.results import Armed, ArmingResult, Entry
from keepaliveD.model.rules import ArmRule


class HelpfulRule(NamedTuple):
    """A rule that would arm a connection: its settings by key, as the configuration has them, and the result."""

    settings: tuple[tuple[str, str], ...]
    armed: Armed


@dataclass(frozen=True, slots=True)
class Explained:
    """One connection, and what the rules come to for its socket.

    `found` is what stands in the socket, None if it was not read; `hindrance` is why, if that is known.
    `entry` is what the arming record says of it. `rule` is the first rule that matches it.
    `decision` is how that rule arms the socket, or why it leaves it alone; None if that is not known.
    `remedy` is a rule that would help a connection at risk where no rule does; `hopeless` is why none would.
    `times` are those that `rule` sets on the path, None where its timeout is not known.
    `left_until_reload` is whether the daemon has considered the socket before, and does not do so again until a reload.
    """

    connection: Connection
    watched: bool
    found: Found | None
    hindrance: ArmingResult | None
    entry: Entry | None
    rule: ArmRule
    decision: Armed | ArmingResult | None = None
    remedy: HelpfulRule | None = None
    hopeless: ArmingResult | None = None
    times: Keepalive | None = None
    left_until_reload: bool = False

    @property
    def armed(self) -> Armed | None:
        """Return how we armed the socket, if what we set stands in it as far as is known."""
        if not isinstance(self.entry, Armed):
            return None
        return self.entry if self.found is None or self.found.stands == self.entry.after else None
