"""The three keepalive sysctls of this network namespace, in /proc/sys/net/ipv4.

The kernel validates next to nothing and reads `010` as octal (proc_dointvec_jiffies,
net/ipv4/sysctl_net_ipv4.c), so what is written is plain decimal, and is read back.
/proc/sys/net is that of the calling thread's network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from keepaliveD.model import requirements
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles

TIME = "net.ipv4.tcp_keepalive_time"  # seconds
INTERVAL = "net.ipv4.tcp_keepalive_intvl"  # seconds
PROBES = "net.ipv4.tcp_keepalive_probes"  # count
KEYS = (INTERVAL, PROBES, TIME)

INT_MAX = 2**31 - 1

LONGEST = 64  # octets of a number
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since Linux 5.14
RANGES = {  # whatever kernels of any HZ and age hold; 0 is at once, -1 never
    INTERVAL: range(-1, INT_MAX // 100 + 1),
    PROBES: range(INT_MAX + 1),
    TIME: range(-1, INT_MAX // 100 + 1),
}

REMEDIES = {
    errno.EACCES: f"run as root, or with {requirements.TUNE.named}",
    errno.EPERM: f"run as root, or with {requirements.TUNE.named}",
    errno.EROFS: "/proc/sys is read-only here: open it (ReadWritePaths=/proc/sys/net), or set keepalive.apply = false",
}


class ProcSys:
    """Reads and writes them below `root`."""

    roles = Roles(TIME, INTERVAL, PROBES)
    ranges: Mapping[str, range] = RANGES

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    @property
    def identity(self) -> Mapping[str, str]:
        """Settings live as long as boot and network namespace. Raises Unsupported, NotPermitted, KernelError.

        The kernel gives the inode of a namespace that is gone to a new one; its cookie it gives once.
        """
        proc = self._root / "proc"
        boot_id, namespace = proc / "sys/kernel/random/boot_id", proc / "thread-self/ns/net"
        try:
            boot = boot_id.read_text(encoding="ascii").strip()
            netns = os.readlink(namespace)
        except FileNotFoundError as error:
            raise Unsupported(f"{error.filename}: cannot be read: {error.strerror}; is /proc mounted?") from error
        except OSError as error:
            raise _refusal(error, f"{error.filename or boot_id}: cannot be read") from error
        except UnicodeDecodeError as error:
            raise KernelError(f"{boot_id}: cannot be read: {error}") from error
        if not boot:  # two boots without a name would be taken for one
            raise Unsupported(f"{boot_id}: is empty, so records of this boot cannot be told from those of another")
        return {"boot": boot, "netns": netns, **_cookie()}

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The sysctls that bring about this keepalive."""
        return {INTERVAL: keepalive.interval, PROBES: keepalive.probes, TIME: keepalive.idle}

    def read(self) -> Mapping[str, int]:
        """What stands there now. Raises Unsupported where the kernel lacks one, NotPermitted, KernelError."""
        return {key: self._read(key) for key in KEYS}

    def exchange(self, key: str, expected: int, value: int) -> int:
        """Write `value` where `expected` stands, and nothing where not. Return what stood there before.

        Reading and writing are two system calls on one descriptor: what somebody else writes between them is lost.
        A third value that reads back is somebody else's, written right after ours: this kernel takes a value as it is
        or refuses it (proc_dointvec_jiffies and proc_dou8vec_minmax, kernel/sysctl.c).
        Raises Unsupported, NotPermitted with its remedy, KernelError.
        """
        if key not in KEYS:
            raise KernelError(f"{key}: refused: not a keepalive setting")
        octets = f"{value}\n".encode("ascii")
        with self._opened(key, os.O_RDWR, f"set to {value}") as file:
            stood = _number(key, os.pread(file, LONGEST, 0))
            if stood != expected:
                return stood
            os.pwrite(file, octets, 0)
            stands = _number(key, os.pread(file, LONGEST, 0))
        if stands == stood != value:
            raise KernelError(f"{key}: set to {value}, but the kernel reports {stands}")
        return stood

    def _read(self, key: str) -> int:
        with self._opened(key, os.O_RDONLY, "read") as file:
            return _number(key, os.pread(file, LONGEST, 0))

    @contextlib.contextmanager
    def _opened(self, key: str, mode: int, verb: str) -> Iterator[int]:
        """A descriptor of the setting; what fails with it is a Refusal that says it cannot be `verb`."""
        path = self._root / "proc/sys" / key.replace(".", "/")
        try:
            file = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)  # a fifo may be mounted over it
            try:
                yield file
            finally:
                os.close(file)
        except FileNotFoundError as error:
            raise Unsupported(f"{key}: missing in this kernel or container; is /proc/sys mounted?") from error
        except OSError as error:
            raise _refusal(error, f"{key}: cannot be {verb}") from error


def _number(key: str, octets: bytes) -> int:
    try:
        return int(octets.decode("ascii"))
    except ValueError as error:
        raise KernelError(f"{key}: cannot be read: {octets!r} is not a number") from error


def _refusal(error: OSError, problem: str) -> Refusal:
    problem = f"{problem}: {error.strerror or error}"
    if error.errno in REMEDIES:
        return NotPermitted(f"{problem}: {REMEDIES[error.errno]}")
    return KernelError(problem)


def _cookie() -> dict[str, str]:
    """Return the cookie of this network namespace, nothing where the kernel shows none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as any_socket:
        octets = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        return {"cookie": str(int.from_bytes(octets, sys.byteorder))}
    return {}
