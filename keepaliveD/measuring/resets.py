"""Find out who resets forgotten connections: the peer, or a device on the path.

A device is nearer than the peer, so more hops are left to its packets when they arrive.
"""

from __future__ import annotations

from keepaliveD.measuring.connection import MOST_HOPS, Connection
from keepaliveD.measuring.far_end import FarEnd
from keepaliveD.measuring.probing import NEXT_PROBE, TRIES, patience, responds
from keepaliveD.policy.measuring.measurement import How, PlannedTest, Result, Seen, Side

ATTRIBUTED = 2  # connections of a round whose reset is looked at more closely
DETOUR = 16  # hops by which the ways of one peer's packets may differ: another stack starts with another TTL
LOST = 3.0  # seconds in which the kernel tries three times more
LOSSY = 2  # answers that came only then: too many packets are lost


class Resets:
    """Looks more closely at the resets of a few connections in each round, until it is known who sends them.

    `hops_left` is how many hops are left to the peer's packets when they arrive, 0 if unknown. `by_peer`: whether the
    peer resets, None if unknown.
    """

    def __init__(self, far_end: FarEnd) -> None:
        self._far_end = far_end
        self._to_attribute = 0
        self.hops_left = 0
        self.by_peer: bool | None = None

    async def locate_peer(self, connection: Connection) -> None:
        """See by a connection how far away the peer is. Raises OSError."""
        self.hops_left = await find_hops_left(connection)

    def begin_round(self) -> None:
        """Let a few connections more be looked at."""
        self._to_attribute = ATTRIBUTED

    def is_to_attribute(self, plan: PlannedTest, death: Result | None) -> bool:
        """Whether attribute() is to probe this connection, given how the first one of this round was forgotten."""
        if death is None or death.how is not How.RESET or plan.prober is not Side.HERE:
            return False
        if not self.hops_left or self.by_peer is not None or not self._to_attribute:
            return False
        self._to_attribute -= 1
        return True

    async def attribute(self, connection: Connection, plan: PlannedTest) -> Seen:
        """Probe a forgotten connection, so that first only a device nearer than the peer can answer.

        Then only a device as far away as the peer, or the peer; then any.
        """
        asked = connection.quiet
        for hops_left in (min(self.hops_left + 1, MOST_HOPS), max(0, self.hops_left - DETOUR), 0):
            connection.refuse_from_afar(hops_left)
            connection.probe()
            until = connection.quiet_at_most
            await responds(connection, TRIES)
            if connection.was_reset:
                break
        reset = connection.was_reset
        seen = Seen(plan, asked, answered=connection.has_answered(), reset=reset, until=until)
        if reset and await self._far_end.is_there(closed=False):
            self.by_peer = 0 < hops_left <= self.hops_left
        return seen


async def find_hops_left(connection: Connection) -> int:
    """Return how many hops are left to the peer's packets when they arrive: 0 if that cannot be seen. Raises OSError.

    Where packets are lost, silence does not show that too few hops were left: what was refused is tried once more.
    """
    low, high, late = 0, MOST_HOPS, 0
    while low < high and late < LOSSY:
        middle = (low + high + 1) // 2
        answered, at_once = await _reaches(connection, middle)
        low, high = (middle, high) if answered else (low, middle - 1)
        late += answered and not at_once
    refused = low == MOST_HOPS or not (await _reaches(connection, low + 1))[0]
    connection.refuse_from_afar(0)
    return low if refused and late < LOSSY else 0


async def _reaches(connection: Connection, hops_left: int) -> tuple[bool, bool]:
    """Whether the peer answers with at least so many hops left, and whether it answers the first probe."""
    connection.refuse_from_afar(hops_left)
    connection.restart()
    connection.probe()
    if await responds(connection, NEXT_PROBE + patience(connection)):
        return True, True
    return await responds(connection, LOST), False
