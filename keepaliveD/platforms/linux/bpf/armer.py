"""Keepalive in the open sockets of other programs, by the BPF iterator of arm.bpf.c.

Neither processes nor descriptors are needed: the socket itself is found by its cookie, whoever holds
it. One pass tells what stands there, policy decides, and a second one sets it where that still stands.
Sockets are many, but most are alike: what is alike is decided and told of as one.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import Connection
from keepaliveD.model.keepalive import Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, Fate
from keepaliveD.model.sockets import Column, Indices, TcpState
from keepaliveD.platforms.base import Keep, Order, keys
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import libbpf, twins
from keepaliveD.platforms.linux.bpf.iterator import exhaust
from keepaliveD.policy.settle import Found, settle, settle_back

OBJECT = Path(__file__).with_name("arm.bpf.o")
PROGRAM = "arm_sockets"
WANTED, SLOTS = "wanted", "slots"
MOST = 100_000  # sockets at a time: less than their max_entries

SLOT = np.dtype(
    [
        *((name, "i4", 4) for name in ("stands", "system", "after")),
        *((name, "i4") for name in ("state", "inherited", "states", "user_timeout")),
    ]
)
SHARED: twins.Twins = {**libbpf.SHARED, "slot": SLOT}
LOOK, SET, STANDS, DONE, CHANGED, FAILED = range(6)
UNSET = {SET: Fate.GONE, CHANGED: Fate.CHANGED, FAILED: Fate.FAILED}

Choice = Armed | Fate
Choose = Callable[[int, Found], Choice]  # of the connection in this row

OPEN = 1 << TcpState.ESTABLISHED  # states in which a socket is armed ...
WITH_HOLDER = OPEN | 1 << TcpState.FIN_WAIT1 | 1 << TcpState.FIN_WAIT2 | 1 << TcpState.CLOSE_WAIT  # ... or disarmed


class _Task(NamedTuple):
    """What to do with connections in these states: choose, have it recorded, set it, which is then a `success`.

    Without a record nothing is set.
    Of those with the same key the same is chosen where the same stands. Keys are made of numbers, for
    to compare what they stand for would cost more than all the rest.
    """

    connections: Sequence[Connection]
    keys: Sequence[Hashable]
    choose: Choose
    keep: Keep | None
    success: Fate
    states: int


class BpfArmer:
    """Arms sockets in all network namespaces that can be entered."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._object: libbpf.Object | None = None
        self._link = -1
        self._slots: Column = np.empty(0, SLOT)

    def arm(self, orders: Sequence[Order], earlier: Mapping[int, Armed], keep: Keep | None) -> list[Arming]:
        """What became of each; raises Unsupported, NotPermitted where it cannot be done here at all."""
        order_of = {order.connection.cookie: order for order in orders}  # a dump may list a socket twice
        unique = list(order_of.values())

        def choose(row: int, found: Found) -> Choice:
            return settle(found, unique[row].request(earlier))

        connections = [order.connection for order in unique]
        return self._each(_Task(connections, keys(unique, earlier), choose, keep, Fate.ARMED, OPEN))

    def disarm(self, connections: Sequence[Connection], earlier: Mapping[int, Armed]) -> list[Arming]:
        """Put back what stood there before, where nobody has set it since."""
        wanted = list({connection.cookie: connection for connection in connections}.values())

        def choose(row: int, found: Found) -> Choice:
            back = settle_back(found, earlier[wanted[row].cookie])
            return back if isinstance(back, Fate) else Armed(found.stands, back)

        armed = [id(earlier[connection.cookie]) for connection in wanted]
        return self._each(_Task(wanted, armed, choose, lambda _: None, Fate.DISARMED, WITH_HOLDER))

    def close(self) -> None:
        """Take it out of the kernel."""
        if self._object:
            self._object.close()
        self._object, self._slots = None, np.empty(0, SLOT)

    def _each(self, task: _Task) -> list[Arming]:
        """In batches: what became of each connection."""
        programs = self.load()
        armings: list[Arming] = []
        for start in range(0, len(task.connections), MOST):
            batch = _Batch(task, start, self._slots)
            cookies = np.array(batch.cookies, np.uint64)
            programs.put_all(WANTED, cookies, np.arange(len(cookies), dtype=np.uint32))
            try:
                self._pass(batch.netns)
                record = batch.decide()
                if task.keep is not None and record:
                    task.keep(record)
                    batch.prepare()
                    self._pass(batch.netns)
            finally:
                programs.drop_all(WANTED, cookies)
            armings += batch.foretell() if task.keep is None else batch.tell()
        return armings

    def load(self) -> libbpf.Object:
        """The program, once it is in the kernel. Raises Unsupported, NotPermitted."""
        if self._object is None:
            programs = libbpf.Object(OBJECT, SHARED)
            try:
                programs.preset(libbpf.CONSTANTS.tobytes())
                programs.load()
                self._link = programs.attach_iterator(PROGRAM)
                self._slots = programs.shared(SLOTS, SLOT, MOST)
            except BaseException:
                programs.close()
                raise
            self._object = programs
        return self._object

    def _pass(self, netns: set[int]) -> None:
        """Over all sockets of these namespaces; what was wanted of them is done, and told in the slots."""
        for iterator in self._iterators(netns):
            exhaust(iterator)

    def _iterators(self, netns: set[int]) -> Iterator[int]:
        """One over each of these namespaces that is still there and may be entered."""
        own = namespaces.only_here(self._root)
        paths = own if netns <= own.keys() else namespaces.everywhere(self._root)
        for one in netns & paths.keys():
            if one in own:
                yield libbpf.open_iterator(self._link)
            else:
                with contextlib.suppress(OSError):
                    yield namespaces.inside(paths[one], one, lambda: libbpf.open_iterator(self._link))


class _Batch:
    """Some of a task's connections, each with the slot of its row."""

    def __init__(self, task: _Task, start: int, slots: Column) -> None:
        self._task = task
        self._start = start
        self._connections = task.connections[start : start + MOST]
        self._slots = slots[: len(self._connections)]
        self._slots["state"] = LOOK
        self._slots["states"] = task.states
        self._chosen: list[tuple[Indices, SocketKeepalive, Armed]] = []
        self._armings: list[Arming] = []
        self.cookies = [connection.cookie for connection in self._connections]
        self.netns = {connection.netns for connection in self._connections}

    def decide(self) -> dict[int, Armed]:
        """How they are to be set, by cookie, given what was found."""
        record: dict[int, Armed] = {}
        for rows in self._alike():
            slot = self._slots[rows[0]]
            if slot["state"] == LOOK:
                self._tell(rows, Fate.GONE)
                continue
            stands, system = _keepalive(slot["stands"]), _keepalive(slot["system"]).times
            found = Found(stands, Own(int(slot["inherited"])), system, int(slot["user_timeout"]))
            choice = self._task.choose(self._start + rows[0], found)
            if isinstance(choice, Fate):
                self._tell(rows, choice, stands, stands)
            else:
                record.update(dict.fromkeys([self.cookies[row] for row in rows], choice))
                self._chosen.append((np.array(rows), stands, choice))
        return record

    def prepare(self) -> None:
        """Have the next pass set these."""
        for rows, _, armed in self._chosen:
            self._slots["after"][rows] = *armed.after.times, armed.after.on
            self._slots["state"][rows] = SET

    def foretell(self) -> list[Arming]:
        """What would become of all of them."""
        for rows, stood, armed in self._chosen:
            self._tell(rows.tolist(), Fate.WOULD, stood, armed.after)
        return self._armings

    def tell(self) -> list[Arming]:
        """What became of all of them."""
        for rows, stood, armed in self._chosen:
            done = self._slots["state"][rows] == DONE
            self._tell(rows[done].tolist(), self._task.success, stood, armed.after)
            for row in rows[~done].tolist():
                slot = self._slots[row]
                self._tell([row], UNSET[int(slot["state"])], stood, _keepalive(slot["stands"]))
        return self._armings

    def _tell(self, rows: Sequence[int], fate: Fate, *known: SocketKeepalive) -> None:
        if rows:
            self._armings.append(Arming(tuple([self._connections[row] for row in rows]), fate, *known))

    def _alike(self) -> Iterable[list[int]]:
        """Rows with the same key in which the same was found."""
        names = ("state", "inherited", "user_timeout", "stands", "system")
        found = np.column_stack([self._slots[name] for name in names])
        kinds = found.view(f"V{found.strides[0]}")[:, 0].tolist()
        rows: dict[tuple[Hashable, bytes], list[int]] = defaultdict(list)
        for row, kind in enumerate(zip(self._task.keys[self._start :], kinds, strict=False)):
            rows[kind].append(row)
        return rows.values()


def _keepalive(numbers: Column) -> SocketKeepalive:
    """Of the kernel's settings."""
    idle, interval, probes, on = numbers.tolist()
    return SocketKeepalive(bool(on), Keepalive(idle, interval, probes))
