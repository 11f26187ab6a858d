"""Whether the far end of a measurement and the path to it are there: fresh connections stand, or do not."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from keepaliveD.measuring.greeting import AFTERWARDS
from keepaliveD.measuring.opening import Refused, Target, absence
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal

PAUSE = 1.0  # seconds from one fresh connection to the next
CLOSING = 1.0  # seconds in which a service that ends has closed its port
OUTAGE = AFTERWARDS  # seconds until the far end counts as gone
REFUSING = 10.0  # ... where it refuses connections: a service that restarts is back sooner
FEWEST = 3  # fresh connections before that: this program may have been stopped meanwhile


class FarEnd:
    """Opens fresh connections to the far end, one at a time, which all that ask share.

    `tried` counts fresh connections, `outages` the times when they stopped standing. `gone` is why the far end was
    given up, else "".
    """

    def __init__(self, target: Target, when_gone: Callable[[], None]) -> None:
        self.target = target
        self._when_gone = when_gone
        self.gone = ""
        self.outages = 0
        self.tried = 0
        self._fresh: asyncio.Task[bool] | None = None
        self._stood = self._absent = -math.inf  # when the last fresh connection was begun that stood, and that did not

    def give_up(self, reason: str) -> None:
        """Have nothing more tried there."""
        self.gone = reason
        self._when_gone()

    async def path_is_up(self) -> bool:
        """Wait until a fresh connection stands; return False if the far end was given up."""
        if self._fresh is None or self._fresh.done():
            self._fresh = asyncio.create_task(self._wait_for_path())
        return await asyncio.shield(self._fresh)

    async def stands_from_now(self) -> bool:
        """Wait until a connection stands that was begun after this; return False if the far end was given up."""
        since = time.monotonic()
        while self._stood < since:
            if not await self.path_is_up():
                return False
        return True

    async def is_there(self, *, closed: bool) -> bool:
        """Whether all fresh connections from now on stand, of which there is one at least.

        `closed`: it may have closed a connection just now.
        """
        now = time.monotonic()
        if closed:
            await asyncio.sleep(CLOSING)  # a service that ends may close its port last
        return await self.stands_from_now() and self._absent < now

    async def _wait_for_path(self) -> bool:
        first, clock = time.monotonic(), time.strftime("%H:%M:%S")
        refusing = math.inf  # since when
        tries = 0
        while not self.gone:
            self.tried += 1
            tries += 1
            began = time.monotonic()
            refusal = await absence(self.target)
            if refusal is None:
                self._stood = began
                return True
            self._absent = began
            if isinstance(refusal, KernelError):
                self.give_up(str(refusal))
                break
            self.outages += tries == 1
            refusing = min(refusing, began) if isinstance(refusal, Refused | NotPermitted) else math.inf
            if tries >= FEWEST and time.monotonic() > min(first + OUTAGE, refusing + REFUSING):
                self.give_up(f"{self._end_of(refusal)} at {clock}; what ended then is not counted")
            await asyncio.sleep(max(0.0, began + PAUSE - time.monotonic()))
        return False

    def _end_of(self, refusal: Refusal) -> str:
        if self.target.is_listener and isinstance(refusal, Refused | NotPermitted):
            return f"{self.target.name}: the listener ended"
        return f"{self.target.name}: it stopped taking connections"
