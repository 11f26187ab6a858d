"""TCP sockets from the BPF iterator of read.bpf.c, one network namespace after the other: Linux 5.15 to 6.1.

An iterator can be read once, and walks the network namespace of the thread that opens it
(bpf_iter_init_seq_net, net/core/sock.c): so a reader keeps its namespace, and each scan opens one there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keepaliveD.model.errors import KernelError
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import iterator, libbpf, records
from keepaliveD.platforms.linux.reading.engine import OneByOne

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

OBJECT = Path(__file__).with_name("read.bpf.o")
PROGRAM = "list_sockets"
SCRATCH = 1 << 21  # bytes: some 20,000 sockets


class BpfIterator(OneByOne):
    """The iterator in the kernel, which leaves out sockets whose peers are in `ignore`."""

    name = "bpf"

    def __init__(self, root: Path = Path("/"), ignore: Sequence[IPNetwork] = ()) -> None:
        """Load the program. Raises Unsupported, NotPermitted."""
        super().__init__(SCRATCH)
        self._namespace = root / "proc/thread-self/ns/net"
        self._own = os.stat(self._namespace).st_ino
        self._visitor: ThreadPoolExecutor | None = None
        self._object = libbpf.Object(OBJECT, records.SHARED)
        try:
            records.load(self._object, ignore)
            self._link = self._object.attach_iterator(PROGRAM)
        except BaseException:
            self._object.close()
            raise

    def reader(self) -> Namespace:
        """Return a reader of the namespace of the calling thread."""
        return Namespace(self, os.open(self._namespace, os.O_RDONLY | os.O_CLOEXEC))

    def open_in(self, namespace: int) -> int:
        """Return an iterator over a namespace, which is given as a descriptor. Raises KernelError."""
        if os.fstat(namespace).st_ino == self._own:
            return libbpf.open_iterator(self._link)
        # one thread goes from namespace to namespace; a new one each time would be the dearest part of a scan
        if self._visitor is None:
            from concurrent.futures import ThreadPoolExecutor  # a megabyte of memory, and nobody else needs it

            self._visitor = ThreadPoolExecutor(max_workers=1)
        return self._visitor.submit(self._visit, namespace).result()

    def close(self) -> None:
        """Remove the program from the kernel."""
        super().close()
        if self._visitor:
            self._visitor.shutdown()
        self._object.close()

    def _visit(self, namespace: int) -> int:
        try:
            namespaces.enter(namespace)
        except OSError as error:
            raise KernelError(f"BPF: a network namespace cannot be entered: {error.strerror}") from error
        return libbpf.open_iterator(self._link)


class Namespace:
    """Reads one network namespace, again and again."""

    def __init__(self, engine: BpfIterator, descriptor: int) -> None:
        self._engine = engine
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the descriptor that keeps the namespace alive."""
        os.close(self._descriptor)

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        """Append all TCP sockets; return true: an iterator does not show whether it left out any.

        Older kernels may skip a socket, or record it twice, if its bucket changes between two reads
        (J. Rife on bpf@vger.kernel.org, March 2025).
        The kernel fills in `netns` itself; `scratch` is overwritten. Raises KernelError.
        """
        del netns
        start = len(sockets)
        for some in iterator.records(self._engine.open_in(self._descriptor), records.RECORD, memoryview(scratch)):
            records.decode(some, sockets)
        _, first = np.unique(sockets["cookie"][start:], return_index=True)
        if start + len(first) < len(sockets):
            once = np.arange(len(sockets)) < start
            once[start + first] = True
            sockets.retain(once)
        return True
