"""The three keepalive sysctls of this network namespace, in /proc/sys/net/ipv4.

The kernel validates next to nothing and reads `010` as octal (proc_dointvec_jiffies,
net/ipv4/sysctl_net_ipv4.c), so what is written is plain decimal, and is read back.
/proc/sys/net is that of the calling thread's network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from keepaliveD.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model import Keepalive

TIME = "net.ipv4.tcp_keepalive_time"  # seconds
INTERVAL = "net.ipv4.tcp_keepalive_intvl"  # seconds
PROBES = "net.ipv4.tcp_keepalive_probes"  # count
KEYS = (INTERVAL, PROBES, TIME)

CURES = {
    errno.EACCES: "run as root, or with CAP_NET_ADMIN",
    errno.EPERM: "run as root, or with CAP_NET_ADMIN",
    errno.EROFS: "/proc/sys is read-only here: open it (ReadWritePaths=/proc/sys/net), or set keepalive.apply = false",
}


class ProcSys:
    """Reads and writes them below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as the boot and the network namespace. Raises Unsupported."""
        proc = self._root / "proc"
        try:
            boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return {"boot": boot, "netns": os.readlink(proc / "thread-self/ns/net")}
        except OSError as error:
            raise Unsupported(f"{error.filename}: cannot be read: {error.strerror}; is /proc mounted?") from error

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The sysctls that bring about this keepalive."""
        return {INTERVAL: keepalive.interval, PROBES: keepalive.probes, TIME: keepalive.idle}

    def read(self) -> Mapping[str, int]:
        """What stands there now. Raises Unsupported where the kernel lacks one, KernelError."""
        return {key: self._read(key) for key in KEYS}

    def write(self, values: Mapping[str, int]) -> None:
        """Write all of them and read them back, or leave all as they were.

        Raises NotPermitted with its cure, or KernelError.
        """
        unknown = values.keys() - set(KEYS)
        if unknown:
            raise KernelError(f"{min(unknown)}: not a setting of ours, refused")
        before = {key: self._read(key) for key in values}
        done: list[str] = []
        try:
            for key, value in values.items():
                self._write(key, value)
                done.append(key)
                self._verify(key, value)
        except Refusal:
            for key in done:
                with contextlib.suppress(Refusal):  # the reason for it all is worth more
                    self._write(key, before[key])
            raise

    def _path(self, key: str) -> Path:
        return self._root / "proc/sys" / key.replace(".", "/")

    def _read(self, key: str) -> int:
        try:
            return int(self._path(key).read_text(encoding="ascii"))
        except FileNotFoundError as error:
            raise Unsupported(f"{key}: this kernel or container does not have it; is /proc/sys mounted?") from error
        except (OSError, ValueError) as error:
            raise KernelError(f"{key}: cannot be read: {error}") from error

    def _write(self, key: str, value: int) -> None:
        try:
            with open(self._path(key), "w", encoding="ascii") as file:
                file.write(f"{value}\n")
        except OSError as error:
            problem = f"{key}: cannot be set to {value}: {error.strerror}"
            if error.errno in CURES:
                raise NotPermitted(f"{problem}: {CURES[error.errno]}") from error
            raise KernelError(problem) from error

    def _verify(self, key: str, value: int) -> None:
        stands = self._read(key)
        if stands != value:
            raise KernelError(f"{key}: set to {value}, but it reads {stands}")
