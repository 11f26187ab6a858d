"""Notify the service manager, if there is one, as sd_notify(3) does, but without ever waiting for it.

Written out here because the daemon must become ready also where systemd-python is missing.
"""

from __future__ import annotations

import os
import socket
from collections import deque

MOST = 16  # messages kept for a manager that does not read
SHORTEST = 0.01  # seconds between two messages to a watchdog: who wants more often gets no more
PASSING = ("WATCHDOG=", "STATUS=", "EXTEND_TIMEOUT_USEC=")  # a later message says it again


class Manager:
    """The service manager at the address in NOTIFY_SOCKET; without an address, nothing is sent."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._unsent: deque[bytes] = deque(maxlen=MOST)

    def notify(self, *assignments: str) -> None:
        """Send assignments such as "READY=1" in one message, or with the next one if there is no room now."""
        if not self._address or (self._unsent and assignments[0].startswith(PASSING) and not self._send()):
            return
        self._unsent.append("\n".join(assignments).encode())
        self._send()

    def _send(self) -> bool:
        """Send the messages that are unsent, the oldest first; return whether all are sent."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                while self._unsent:
                    manager.sendto(self._unsent[0], socket.MSG_DONTWAIT, self._address)
                    self._unsent.popleft()
        except BlockingIOError:
            return False
        except OSError:
            self._unsent.clear()  # a manager that has gone away is no reason to stop
        return True


def watchdog_period() -> float:
    """Return the watchdog's period in seconds, halved for safety, or SHORTEST; infinite if the manager asks for none.

    A value that is not a positive number of microseconds asks for none (sd_watchdog_enabled(3)).
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return float("inf")
    try:
        period = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    except (ValueError, OverflowError):
        return float("inf")
    return max(period, SHORTEST) if period > 0 else float("inf")
