"""Loads deaths.bpf.c, and reads what its programs tell: one record for each connection that did not end ordinarily."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.deaths import UNKEPT
from keepaliveD.model.errors import NotPermitted, Unsupported
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.bpf import libbpf, twins
from keepaliveD.platforms.linux.bpf.connect import ADDRESS
from keepaliveD.platforms.linux.bpf.ring import Ring

OBJECT = Path(__file__).with_name("deaths.bpf.o")
STATE, PACKET, DROP = "see_state", "see_packet", "see_drop"
RING, ROOM = "ring", 4 << 20
PROCESSORS = 64

NEVER = 0xFFFFFFFF  # there was none
RECORD = np.dtype(
    [
        *((name, "u8") for name in ("cookie", "cgroup")),
        *((name, ADDRESS) for name in ("local", "remote")),
        *((name, "u8") for name in ("ended_at", "bytes_received", "bytes_acked")),
        *((name, "u4") for name in ("netns", "inode", "uid", "keepidle", "keepintvl", "user_timeout")),
        *((name, "u4") for name in ("unacked", "unsent", "unread", "window")),
        *((name, "u4") for name in ("closer_pid", "reset_label", "peer_label")),
        *((name, "u4") for name in ("since_sent", "since_received", "since_acked", "since_lost", "timeout")),
        *((name, "u4") for name in ("since_fin", "since_peer_probe", "peer_probe_gap", "since_syn")),
        ("fin_silence", "u4"),
        ("first_unacked", "u4"),
        *((name, "u2") for name in ("error", "soft_error", "reset_id", "reset_window")),
        *((name, "u2") for name in ("dropped_by_firewall", "dropped_leaving", "dropped_by_md5", "afterwards")),
        *((name, "u2") for name in ("unrouted", "discarded", "local_port", "remote_port")),
        *((name, "u1") for name in ("state", "shutdown", "retransmits", "probes", "keepcnt", "keepalive")),
        *((name, "u1") for name in ("peer_probes", "reset", "reset_flags", "reset_ttl", "peer_ttl", "syn_ttl")),
        *((name, "u1") for name in ("reset_timestamps", "timestamps", "reset_local", "sent_reset", "fin_first")),
        *((name, "u1") for name in ("signal", "exiting", "out_of_memory", "by_kernel", "no_carrier", "unkept")),
        ("closer", "S16"),
    ],
    align=True,
)
WANTED = np.dtype([("idle", "u4"), ("packets", "u4"), ("netns", "u4"), ("own", "u4"), ("errors", "u8", 2)])
COUNTS = np.dtype(
    [("each", [*((name, "u8") for name in ("ordinary", "lost", "open")), ("unused", "u8", 5)], PROCESSORS)]
)
OF_PACKETS = frozenset(
    {
        *("reset_flags", "reset_ttl", "reset_id", "reset_window", "reset_label", "reset_timestamps", "reset_local"),
        *("peer_ttl", "peer_probes", "since_peer_probe", "peer_probe_gap", "since_syn", "syn_ttl", "since_fin"),
    }
)

SHARED: twins.Twins = {"death": RECORD, "wanted": WANTED, "counts": COUNTS}


class BpfDeaths:
    """The programs, at work from here to close().

    `hindered` says why something cannot be seen, or ""; `unknown` are the columns of model.deaths.DEATH that are
    therefore empty.
    """

    def __init__(
        self, cgroup: Path | None, idle: float, *, everywhere: bool = True, errors: tuple[int, int] = (0, 0)
    ) -> None:
        """Load and attach them.

        `cgroup`: those whose packets are read, which tells much more of a reset; None reads none. `idle`: report
        a peer's close after so many seconds of silence; 0 is never. `everywhere`: watch all network namespaces, not
        this one alone. `errors`: the cookies of two sockets that then receive only ICMP errors about established
        connections of this host, where packets are read; 0 for none. Raises Unsupported, NotPermitted.
        """
        self.hindered = ""
        self.unknown = frozenset() if cgroup else OF_PACKETS
        self._errors = errors
        try:
            self._open(cgroup, idle, everywhere=everywhere, drops=True)
        except Unsupported as refusal:
            self.hindered = str(refusal)
            self.unknown |= UNKEPT
            # before Linux 5.17 packets were dropped without a reason
            self._open(cgroup, idle, everywhere=everywhere, drops=False)

    def fileno(self) -> int:
        """Return a descriptor that can be read from when there are records."""
        return self._ring.fileno()

    def read(self) -> Column:
        """Return the records that came since, as RECORD."""
        return self._ring.read()

    def program_fd(self, program: str) -> int:
        """Return the descriptor of one of them, until close()."""
        return self._object.program_fd(program)

    def counts(self) -> tuple[int, int]:
        """Return how many ended ordinarily, and how many otherwise for which there was no room, since the start."""
        return int(self._counts["ordinary"].sum()), int(self._counts["lost"].sum())

    def skipped(self) -> int:
        """Return for how many changes of a socket's state, of any socket, the kernel did not run them, since the start.

        It runs no program again on a processor on which an interrupt has stopped that program.
        """
        return self._object.skipped(STATE)

    def seen_open(self) -> int:
        """Return how many they saw end while open in this network namespace, since the start."""
        return int(self._counts["open"].sum())

    def close(self) -> None:
        """Take them out of the kernel."""
        del self._ring, self._counts  # they hold the maps
        self._object.close()

    def _open(self, cgroup: Path | None, idle: float, *, everywhere: bool, drops: bool) -> None:
        self._object = libbpf.Object(OBJECT, SHARED, requirements.DEATHS)
        try:
            netns = os.stat("/proc/thread-self/ns/net").st_ino
            wanted = round(idle * libbpf.JIFFIES), cgroup is not None, netns, not everywhere, self._errors
            self._object.preset(np.array(wanted, WANTED).tobytes())
            if not drops:
                self._object.leave_out(DROP)
            if cgroup is None:
                self._object.leave_out(PACKET)
            self._object.load()
            self._counts = self._object.shared(".bss", COUNTS, 1)["each"]
            self._ring = self._map_ring()
            if cgroup is not None:
                self._object.attach_cgroup(PACKET, cgroup)
            if drops:
                self._object.attach(DROP)
            self._object.attach(STATE)
        except BaseException:
            self._object.close()
            raise

    def _map_ring(self) -> Ring:
        try:
            return Ring(self._object.map_fd(RING), ROOM, RECORD)
        except PermissionError as error:
            raise NotPermitted(f"{OBJECT.name}: {error.strerror}") from error
        except OSError as error:
            raise Unsupported(f"{OBJECT.name}: {error.strerror}") from error
