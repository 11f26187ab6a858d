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
from typing import TypeVar

import numpy as np

from keepaliveD.model import Armed, Arming, Connection, Fate, Keepalive, SocketKeepalive
from keepaliveD.platforms.base import Keep, Order
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.platforms.linux.bpf.iterator import exhaust
from keepaliveD.policy.settle import settle_back, settle_order
from keepaliveD.sockets import Column, Indices

OBJECT = Path(__file__).with_name("arm.bpf.o")
PROGRAM = "arm_sockets"
WANTED, SLOTS = "wanted", "slots"
MOST = 100_000  # sockets at a time: less than their max_entries

SLOT = np.dtype([("stands", "i4", 4), ("system", "i4", 4), ("after", "i4", 4), ("state", "i4"), ("unused", "i4")])
LOOK, SET, STANDS, DONE, CHANGED, FAILED = range(6)
UNSET = {SET: Fate.GONE, CHANGED: Fate.CHANGED, FAILED: Fate.FAILED}

Question = TypeVar("Question", bound=Hashable)
Choice = SocketKeepalive | Fate
Answer = Callable[[Question, SocketKeepalive, Keepalive], Choice]  # what stands there, what its namespace says


class BpfArmer:
    """Arms sockets in all network namespaces that can be entered."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._object: libbpf.Object | None = None
        self._link = -1
        self._slots: Column = np.empty(0, SLOT)

    def arm(self, orders: Sequence[Order], earlier: Mapping[int, Armed], keep: Keep) -> list[Arming]:
        """What became of each; raises Unsupported, NotPermitted where it cannot be done here at all."""
        order_of = {order.connection.cookie: order for order in orders}  # a dump may list a socket twice
        wishes = {id(order.wish): order.wish for order in orders}  # to hash them would cost more than all the rest

        def answer(asked: tuple[int, Armed | None, bool, bool], before: SocketKeepalive, system: Keepalive) -> Choice:
            wish, armed, by_hand, again = asked
            return settle_order(before, system, wishes[wish], armed, by_hand=by_hand, again=again)

        questions = [
            (id(order.wish), earlier.get(cookie), order.by_hand, order.again) for cookie, order in order_of.items()
        ]
        return self._each([order.connection for order in order_of.values()], questions, answer, keep, Fate.ARMED)

    def disarm(self, connections: Sequence[Connection], earlier: Mapping[int, Armed]) -> list[Arming]:
        """Put back what stood there before, where nobody has set it since."""
        wanted = {connection.cookie: connection for connection in connections}

        def answer(armed: Armed, before: SocketKeepalive, _: Keepalive) -> Choice:
            return settle_back(before, armed)

        questions = [earlier[cookie] for cookie in wanted]
        return self._each(list(wanted.values()), questions, answer, lambda _: None, Fate.DISARMED)

    def close(self) -> None:
        """Take it out of the kernel."""
        if self._object:
            self._object.close()
        self._object, self._slots = None, np.empty(0, SLOT)

    def _each(
        self,
        connections: Sequence[Connection],
        questions: Sequence[Question],
        answer: Answer[Question],
        keep: Keep,
        success: Fate,
    ) -> list[Arming]:
        """In batches: of each connection, what the answer to its question brought about."""
        programs = self.load()
        armings: list[Arming] = []
        for start in range(0, len(connections), MOST):
            batch = _Batch(connections[start : start + MOST], self._slots)
            cookies = np.array(batch.cookies, np.uint64)
            programs.put_all(WANTED, cookies, np.arange(len(cookies), dtype=np.uint32))
            try:
                self._pass(batch.netns)
                record = batch.decide(questions[start : start + MOST], answer)
                keep(record)
                if record:
                    batch.prepare()
                    self._pass(batch.netns)
            finally:
                programs.drop_all(WANTED, cookies)
            armings += batch.tell(success)
        return armings

    def load(self) -> libbpf.Object:
        """The program, once it is in the kernel. Raises Unsupported, NotPermitted."""
        if self._object is None:
            programs = libbpf.Object(OBJECT)
            try:
                programs.preset(libbpf.CONSTANTS)
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
                    yield namespaces.inside(paths[one], lambda: libbpf.open_iterator(self._link))


class _Batch:
    """Some connections, each with the slot of its row."""

    def __init__(self, connections: Sequence[Connection], slots: Column) -> None:
        self._connections = connections
        self._slots = slots[: len(connections)]
        self._slots["state"] = LOOK
        self._chosen: list[tuple[Indices, Armed]] = []
        self._armings: list[Arming] = []
        self.cookies = [connection.cookie for connection in connections]
        self.netns = {connection.netns for connection in connections}

    def decide(self, questions: Sequence[Question], answer: Answer[Question]) -> dict[int, Armed]:
        """What the answers are to what was found, by cookie, of those that are to be set."""
        record: dict[int, Armed] = {}
        for question, rows in self._alike(questions):
            slot = self._slots[rows[0]]
            if slot["state"] == LOOK:
                self._tell(rows, Fate.GONE)
                continue
            before, system = _keepalive(slot["stands"]), _keepalive(slot["system"])
            after = answer(question, before, system.times)
            if isinstance(after, Fate):
                self._tell(rows, after, before, before)
            else:
                armed = Armed(before, after)
                record.update(dict.fromkeys([self.cookies[row] for row in rows], armed))
                self._chosen.append((np.array(rows), armed))
        return record

    def prepare(self) -> None:
        """Have the next pass set these."""
        for rows, armed in self._chosen:
            self._slots["after"][rows] = *armed.after.times, armed.after.on
            self._slots["state"][rows] = SET

    def tell(self, success: Fate) -> list[Arming]:
        """What became of all of them."""
        for rows, armed in self._chosen:
            done = self._slots["state"][rows] == DONE
            self._tell(rows[done].tolist(), success, armed.before, armed.after)
            for row in rows[~done].tolist():
                slot = self._slots[row]
                self._tell([row], UNSET[int(slot["state"])], armed.before, _keepalive(slot["stands"]))
        return self._armings

    def _tell(self, rows: Sequence[int], fate: Fate, *known: SocketKeepalive) -> None:
        if rows:
            self._armings.append(Arming(tuple([self._connections[row] for row in rows]), fate, *known))

    def _alike(self, questions: Sequence[Question]) -> Iterable[tuple[Question, list[int]]]:
        """Rows with the same question in which the same was found."""
        found = np.column_stack([self._slots[name] for name in ("state", "stands", "system")])
        kinds = found.view(f"V{found.strides[0]}")[:, 0].tolist()
        rows: dict[tuple[Question, bytes], list[int]] = defaultdict(list)
        for row, kind in enumerate(zip(questions, kinds, strict=True)):
            rows[kind].append(row)
        return ((question, alike) for (question, _), alike in rows.items())


def _keepalive(numbers: Column) -> SocketKeepalive:
    """Of the kernel's settings."""
    idle, interval, probes, on = numbers.tolist()
    return SocketKeepalive(bool(on), Keepalive(idle, interval, probes))
