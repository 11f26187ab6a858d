"""TCP sockets from the BPF iterator of read.bpf.c, into rows of sockets.SOCKET.

Beside what sock_diag tells there are the socket's own keepalive settings.
An iterator can be read once, and walks the network namespace of the thread that opens it
(bpf_iter_init_seq_net, net/core/sock.c): so a reader keeps its namespace, and each scan opens one there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keepaliveD.errors import KernelError, Unsupported
from keepaliveD.model import IPNetwork
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.platforms.linux.bpf.iterator import records
from keepaliveD.sockets import Column, Sockets

OBJECT = Path(__file__).with_name("read.bpf.o")
PROGRAM = "list_sockets"
IGNORED = "ignored"
MOST_IGNORED = 1024  # its max_entries

RECORD = np.dtype(  # struct record
    {
        "names": [
            *("cookie", "cgroup", "local_high", "local_low", "remote_high", "remote_low"),
            *("inode", "uid", "interface", "segments_in", "segments_out", "keepidle", "keepintvl"),
            *("since_sent", "since_received", "since_acked", "expires"),
            *("local_port", "remote_port", "state", "timer", "keepalive", "keepcnt", "own"),
        ],
        "formats": ["u8"] * 6 + ["u4"] * 11 + ["u2"] * 2 + ["u1"] * 5,
        "itemsize": 104,
    }
)
SECONDS = ("since_sent", "since_received", "since_acked", "expires")  # in jiffies until here
WHOLE_SECONDS = ("keepidle", "keepintvl")

AS_IPV6 = 96  # bits before an IPv4 address that is written v4-mapped


class BpfEngine:
    """The iterator in the kernel; sockets whose peers are in `ignore` are left out by it."""

    name = "bpf"

    def __init__(self, root: Path = Path("/"), ignore: Sequence[IPNetwork] = ()) -> None:
        """Load it. Raises Unsupported, NotPermitted."""
        if len(ignore) > MOST_IGNORED:
            raise Unsupported(f"watch.ignore: {len(ignore)} networks are too many for BPF; it knows {MOST_IGNORED}")
        self._namespace = root / "proc/thread-self/ns/net"
        self._own = os.stat(self._namespace).st_ino
        self._visitor: ThreadPoolExecutor | None = None
        self._object = libbpf.Object(OBJECT)
        try:
            self._object.preset(bytes([bool(ignore)]))
            self._object.load()
            for network in ignore:
                self._object.put(IGNORED, _prefix(network), b"\1")
            self._link = self._object.attach_iterator(PROGRAM)
        except BaseException:
            self._object.close()
            raise

    def reader(self) -> BpfReader:
        """One for the namespace of the calling thread."""
        return BpfReader(self, os.open(self._namespace, os.O_RDONLY | os.O_CLOEXEC))

    def open_in(self, namespace: int) -> int:
        """An iterator over that namespace, given as a descriptor. Raises KernelError."""
        if os.fstat(namespace).st_ino == self._own:
            return libbpf.open_iterator(self._link)
        # one thread goes from namespace to namespace; a new one each time would be the dearest part of a scan
        self._visitor = self._visitor or ThreadPoolExecutor(max_workers=1)
        return self._visitor.submit(self._visit, namespace).result()

    def close(self) -> None:
        """Take it out of the kernel."""
        if self._visitor:
            self._visitor.shutdown()
        self._object.close()

    def _visit(self, namespace: int) -> int:
        try:
            namespaces.enter(namespace)
        except OSError as error:
            raise KernelError(f"BPF: a network namespace cannot be entered: {error.strerror}") from error
        return libbpf.open_iterator(self._link)


class BpfReader:
    """Reads one network namespace, again and again."""

    def __init__(self, engine: BpfEngine, namespace: int) -> None:
        self._engine = engine
        self._namespace = namespace

    def close(self) -> None:
        """Let go of the namespace, which an open descriptor keeps alive."""
        os.close(self._namespace)

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        """Append all TCP sockets; true, since an iterator leaves none out that was there all the time.

        `netns` goes into the column of that name; `scratch` is overwritten. Raises KernelError.
        """
        for some in records(self._engine.open_in(self._namespace), RECORD, memoryview(scratch)):
            decode(some, netns, sockets)
        return True


def decode(records: Column, netns: int, sockets: Sockets) -> None:
    """Append the sockets in these records."""
    new = sockets.extend(len(records))
    for name in RECORD.names or ():
        new[name][:] = records[name]
    for name in SECONDS:
        new[name] *= np.float32(1 / libbpf.JIFFIES)
    for name in WHOLE_SECONDS:
        new[name] //= np.uint32(libbpf.JIFFIES)
    new["netns"][:] = netns


def _prefix(network: IPNetwork) -> bytes:
    """The program's struct prefix; IPv4 is v4-mapped."""
    if network.version == 4:
        return struct.pack(
            "=I12s4s", AS_IPV6 + network.prefixlen, b"\0" * 10 + b"\xff" * 2, network.network_address.packed
        )
    return struct.pack("=I16s", network.prefixlen, network.network_address.packed)
