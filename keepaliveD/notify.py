"""sd_notify(3): one datagram to the service manager, where there is one.

Written out here because the daemon must become ready also where systemd-python is missing.
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*assignments: str) -> None:
    """Send assignments such as "READY=1" in one message; without a manager, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(assignments).encode()
    gone = contextlib.suppress(OSError)  # a manager that has gone away is no reason to stop
    with gone, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.sendto(message, address)


def watchdog_period() -> float:
    """Seconds between signs of life that the manager asks for, halved for safety; infinite if none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return float("inf")
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6 or float("inf")
