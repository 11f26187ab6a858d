"""The setting of the keepalive idle time of one network namespace, which sockets without one of their own follow."""

from __future__ import annotations

import os

SETTING = "/proc/sys/net/ipv4/tcp_keepalive_time"  # of the namespace of whoever opens it
SIZE = 32  # octets; it has some five


class IdleTime:
    """That of the network namespace of the thread which makes this."""

    def __init__(self, setting: str = SETTING) -> None:
        try:
            self._file: int | None = os.open(setting, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # hidden by a sandbox
            self._file = None
        self._before = self._read()

    def has_changed(self) -> bool:
        """Return whether it is another one than when this was last called."""
        before, self._before = self._before, self._read()
        return before != self._before

    def close(self) -> None:
        """Let go of it."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _read(self) -> bytes:
        try:
            return os.pread(self._file, SIZE, 0) if self._file is not None else b""
        except OSError:  # its namespace has ended
            return b""
