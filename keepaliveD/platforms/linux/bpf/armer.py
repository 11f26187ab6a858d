"""Keepalive in the open sockets of other programs, by the BPF iterator of arm.bpf.c.

Neither processes nor descriptors are needed: the socket itself is found by its cookie, whichever process has
it. One pass over all sockets of a namespace reads the settings of those that are wanted, or sets them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keepaliveD.model.arming import LOOKED, RESULT, Access
from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Column, TcpState
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import libbpf, twins
from keepaliveD.platforms.linux.bpf.iterator import exhaust
from keepaliveD.platforms.touching import Kind

OBJECT = Path(__file__).with_name("arm.bpf.o")
PROGRAM = "arm_sockets"
WANTED, SLOTS = "wanted", "slots"
FEW = 100_000  # sockets for which there is always room: less than their max_entries
MOST = 500_000  # sockets at a time: the kernel needs 70 MB for them meanwhile; each pass visits all that are there

SLOT = np.dtype(
    [
        ("cookie", "u8"),
        *((name, "i4", 4) for name in ("stands", "system", "after")),
        *((name, "i4") for name in ("state", "inherited")),
        *((name, "u2") for name in ("states", "unanswered")),
        ("user_timeout", "i4"),
    ]
)
SHARED: twins.Twins = {**libbpf.SHARED, "slot": SLOT}
LOOK, SET, STANDS, DONE, CHANGED, FAILED = range(6)
ACCESS = np.array(
    [Access.CLOSED, Access.CLOSED, Access.DONE, Access.DONE, Access.CHANGED_MEANWHILE, Access.FAILED], np.int32
)

OPEN = 1 << TcpState.ESTABLISHED  # states in which a socket is armed ...
CLOSING = OPEN | 1 << TcpState.FIN_WAIT1 | 1 << TcpState.FIN_WAIT2 | 1 << TcpState.CLOSE_WAIT  # ... or disarmed


class BpfArmer:
    """Arms sockets in all network namespaces that can be entered."""

    by_cookie = True

    def __init__(self, root: Path) -> None:
        self.left_out: set[int] = set()  # namespaces of the last pass in which a socket may be locked for ever
        self._root = root
        self._object: libbpf.Object | None = None
        self._link = -1
        self._room = FEW
        self._wanted: Column = np.empty(0, np.uint64)  # cookies in the kernel's map, in the order of their slots

    def read(self, targets: Column, *, closing: bool) -> Column:
        """Return what stands in the first of these sockets. Raises Unsupported, NotPermitted, KernelError."""
        targets = self._as_many_as_there_is_room_for(targets)
        slots = self._slots_for(targets["cookie"], LOOK, closing=closing)
        self._pass(targets["netns"], slots["state"])
        looked = np.zeros(len(targets), LOOKED)
        looked["access"] = ACCESS[slots["state"]]
        reached = slots["state"] == STANDS
        for name in ("stands", "system", "inherited", "user_timeout", "unanswered"):
            looked[name][reached] = slots[name][reached]
        looked["system"][reached, 3] = 1
        return looked

    def change(self, changes: Column, *, closing: bool) -> Column:
        """Set each socket in which the expected settings still stand. Raises the same."""
        slots = self._slots_for(changes["cookie"], SET, closing=closing)
        slots["stands"], slots["inherited"], slots["after"] = (
            changes[name] for name in ("expected", "inherited", "after")
        )
        self._pass(changes["netns"], slots["state"])
        results = np.empty(len(changes), RESULT)
        results["access"], results["stands"] = ACCESS[slots["state"]], slots["stands"]
        if self._room > FEW:
            self.close()  # so that the kernel does not keep room for as many
        return results

    def close(self) -> None:
        """Remove the program from the kernel."""
        if self._object:
            self._object.close()
        self._object, self._wanted = None, np.empty(0, np.uint64)

    def load(self) -> libbpf.Object:
        """Load the program, unless it is in the kernel already; return it. Raises Unsupported, NotPermitted."""
        if self._object is None:
            programs = libbpf.Object(OBJECT, SHARED)
            try:
                programs.preset(libbpf.CONSTANTS.tobytes())
                if self._room > FEW:
                    programs.make_room(WANTED, self._room)
                    programs.make_room(SLOTS, self._room)
                programs.load()
                self._link = programs.attach_iterator(PROGRAM)
                programs.shared(SLOTS, SLOT, self._room)  # to see that there is room
            except BaseException:
                programs.close()
                raise
            self._object = programs
        return self._object

    def _slots_for(self, cookies: Column, state: int, *, closing: bool) -> Column:
        """Return the slots of these sockets, in this state. Most of them were wanted in the last pass, too.

        The kernel's memory of these slots alone counts as ours, and only as long as the caller has them.
        """
        programs = self._load_for(len(cookies))
        if not np.array_equal(cookies, self._wanted):
            try:
                self._want(programs, np.array(cookies))
            except BaseException:
                self.close()  # a cookie that is left in the map would stand for another one's slot
                raise
        slots = programs.shared(SLOTS, SLOT, len(cookies))
        slots["state"], slots["states"] = state, CLOSING if closing else OPEN
        return slots

    def _as_many_as_there_is_room_for(self, targets: Column) -> Column:
        """Return the first of these sockets. Raises the same as load()."""
        targets = targets[:MOST]
        try:
            self._load_for(len(targets))
        except KernelError:  # the kernel has no memory for so many
            if len(targets) <= FEW:
                raise
            targets = targets[:FEW]
        return targets

    def _load_for(self, count: int) -> libbpf.Object:
        """Load the program with room for so many sockets. Few are the rule, and then the kernel keeps room for few."""
        room = FEW * max(1, math.ceil(count / FEW))
        if room != self._room:
            self.close()
            self._room = room
        return self.load()

    def _want(self, programs: libbpf.Object, cookies: Column) -> None:
        if len(self._wanted):
            programs.drop_all(WANTED, self._wanted)
        programs.put_all(WANTED, cookies, np.arange(len(cookies), dtype=np.uint32))
        slots = programs.shared(SLOTS, SLOT, max(len(cookies), len(self._wanted)))
        slots["cookie"] = 0
        slots["cookie"][: len(cookies)] = cookies
        self._wanted = cookies

    def _pass(self, netns: Column, states: Column) -> None:
        """Visit the sockets of these namespaces until all that are wanted were read or set, each in its slot.

        A scan lists sockets in the order in which they are visited, so that the last one is mostly the last reached.
        """
        self.left_out = set()

        def is_enough() -> bool:
            return not any(np.isin(some, (LOOK, SET)).any() for some in (states[-1:], states))

        for iterator in self._iterators(set(netns.tolist())):
            exhaust(iterator, is_enough)

    def _iterators(self, netns: set[int]) -> Iterator[int]:
        """Yield an iterator over each of these namespaces that still exists and may be entered."""
        own = namespaces.only_here(self._root)
        paths = own if netns <= own.keys() else namespaces.everywhere(self._root)
        for one in netns & paths.keys():
            try:
                touching.await_locks(one, Kind.LOCKS)
            except touching.MustNotTouch:
                self.left_out.add(one)
                continue
            with contextlib.suppress(OSError):  # it has ended, or may not be entered
                if one in own:
                    yield libbpf.open_iterator(self._link)
                else:
                    yield namespaces.inside(paths[one], one, lambda: libbpf.open_iterator(self._link))
