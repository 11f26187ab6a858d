"""A journal full of deaths, as a real journald keeps it, in a mount namespace whose /run is not that of the host."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path as File

from keepaliveD.log.ids import MESSAGE_IDS
from keepaliveD.model.causes import Cause

JOURNALD = "/usr/lib/systemd/systemd-journald"
MACHINE = File("/etc/machine-id")
SOCKET = "/run/systemd/journal/socket"
SETTINGS = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nRuntimeMaxUse=1G\nReadKMsg=no\nAudit=no\n"
SECONDS = 30.0  # until it listens
WRITTEN = 1.0  # seconds after the last entry


@contextlib.contextmanager
def full_of_deaths(number: int, peer: str) -> Iterator[bool]:
    """Let a journald keep so many deaths of connections with this peer; False where none can run here.

    Whoever runs must have a mount namespace of his own (bench/__main__.py).
    """
    if not (File(JOURNALD).exists() and MACHINE.exists() and MACHINE.read_text(encoding="ascii").strip()):
        yield False
        return
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    File("/run/systemd/journald.conf.d").mkdir(parents=True)
    File("/run/systemd/journald.conf.d/bench.conf").write_text(SETTINGS, encoding="ascii")
    File("/run/log/journal", MACHINE.read_text(encoding="ascii").strip()).mkdir(parents=True)
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", JOURNALD], stderr=subprocess.DEVNULL) as journald:
        try:
            end = time.monotonic() + SECONDS
            while not File(SOCKET).exists():
                if time.monotonic() > end:
                    raise SystemExit("journald does not listen")
                time.sleep(0.01)
            _fill(number, peer)
            yield True
        finally:
            journald.terminate()


def _fill(number: int, peer: str) -> None:
    fields = {
        "MESSAGE": "a connection died",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "tcp-keepalived",
        "MESSAGE_ID": MESSAGE_IDS["died"],
        "KEEPALIVE_CAUSE": Cause.MIDDLEBOX_IDLE.key,
        "KEEPALIVE_REMOTE_ADDRESS": peer,
        "KEEPALIVE_NETNS": str(os.stat("/proc/self/ns/net").st_ino),
        "KEEPALIVE_UID": str(os.getuid()),
        "KEEPALIVE_SILENCE_SEC": "350",
        "KEEPALIVE_TIMEOUT_SEC": "3600",
        "KEEPALIVE_REMEDY": 'timeout = "175s"',
    }
    common = "".join(f"{name}={value}\n" for name, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.connect(SOCKET)
        for cookie in range(number):
            sending.send(f"{common}KEEPALIVE_COOKIE={cookie}\n".encode())
    time.sleep(WRITTEN)
