"""Tell a running daemon which connections measure a path: it counts the ends of these apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from keepaliveD.cli.asking.asking import ask, control_socket
from keepaliveD.measuring.connection import Connection
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted

PATIENCE = 1.0  # seconds for the daemon's answer
IN_VAIN = 3  # times in a row that it does not answer; then it is not asked any more


class Introduction:
    """Introduces connections to the daemon, which believes root alone; where nobody listens, to nobody."""

    def __init__(self, root: Path) -> None:
        self._daemon = control_socket(root)
        self._in_vain = 0

    async def __call__(self, connection: Connection) -> None:
        """Introduce one. A daemon that may not be asked, or goes on not answering, is not asked again."""
        if self._in_vain >= IN_VAIN:
            return
        try:
            parameters = {"cookies": [connection.cookie]}
            await asyncio.to_thread(ask, self._daemon, "Measuring", parameters, PATIENCE)
            self._in_vain = 0
        except (NoInput, OSError):  # no daemon runs now, or no descriptor is left now
            return
        except NotPermitted:
            self._in_vain = IN_VAIN
        except KernelError:  # a busy machine, perhaps
            self._in_vain += 1
