"""What the connection tracking of a network namespace remembers of many connections, by conntrack.bpf.c.

It takes 0.5 us for each, where a question by netlink takes 11 us. Only a kernel that has conntrack built in is asked
so: a program in the kernel would keep the module from being unloaded, and to find it there takes CAP_SYS_ADMIN.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.errors import Unsupported
from keepaliveD.model.firewall import FLOW
from keepaliveD.model.sockets import Column
from keepaliveD.platforms import touching
from keepaliveD.platforms.clock import now
from keepaliveD.platforms.linux.bpf import libbpf, twins

OBJECT = Path(__file__).with_name("conntrack.bpf.o")
PROGRAM = "consult"
IS_MODULE = Path("sys/module/nf_conntrack/initstate")  # what is built in has no state
FLOWS = 1024  # as many as there is room for
WORD = 8  # bytes

REMEMBERED = np.dtype([("found", "u4"), ("established", "u4"), ("forgets_in", "i8")])
ASKED = np.dtype([("count", "u8")])
SHARED: twins.Twins = {"flow": FLOW, "remembered": REMEMBERED, "asked": ASKED}


class BpfConntrack:
    """The program in the kernel, which answers for the network namespace of the calling thread."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Load it. Raises Unsupported, NotPermitted."""
        if (root / IS_MODULE).exists():
            raise Unsupported("nf_conntrack is a module, which a BPF program would keep from being unloaded")
        self._object = libbpf.Object(OBJECT, SHARED, requirements.CONSULT)
        try:
            self._object.load()
            self._program = self._object.program_fd(PROGRAM)
            self._asked = self._object.shared(".bss", ASKED, 1)
            self._flows = _words(self._object.shared("flows", FLOW, FLOWS))
            self._answers = _words(self._object.shared("answers", REMEMBERED, FLOWS))
        except BaseException:
            self._object.close()
            raise

    def ask(self, flows: Column, answers: Column) -> None:
        """Fill in an ENTRY for each of these connections. Raises KernelError."""
        questions, entries = _words(flows), np.zeros(len(flows), REMEMBERED)
        heard, asked_at = _words(entries), np.zeros(len(flows))
        for start in range(0, len(flows), FLOWS):
            some = questions[start : start + FLOWS]
            these = slice(start, start + len(some))
            self._flows[: len(some)], self._asked["count"] = some, len(some)
            touching.on()
            asked_at[these] = now()
            libbpf.run_with_packet(self._program)
            heard[these] = self._answers[: len(some)]
        found = entries["found"] != 0
        forgets_in = np.maximum(entries["forgets_in"], 0) // libbpf.JIFFIES
        other = (entries["established"] == 0) | (forgets_in > answers["timeout"])
        answers["found"], answers["asked_at"], answers["forgets_in"] = found, asked_at, forgets_in
        answers["timeout"][found & other] = np.nan

    def close(self) -> None:
        """Take it out of the kernel."""
        del self._asked, self._flows, self._answers  # they hold the maps
        self._object.close()


def _words(rows: Column) -> Column:
    """Return the memory of these rows as words, a line for each row: NumPy copies structures far more slowly."""
    return rows.view(np.uint64).reshape(len(rows), rows.itemsize // WORD)
