"""Keepalive in the open sockets of other programs, by the BPF iterator of arm.bpf.c.

Neither processes nor descriptors are needed: the socket itself is found by its cookie, whoever holds
it. One pass tells what stands there, policy decides, and a second one sets it where that still stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from keepaliveD.model import Armed, Arming, Connection, Fate, Keepalive, SocketKeepalive
from keepaliveD.platforms.base import Keep, Order
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.platforms.linux.bpf.iterator import records
from keepaliveD.policy.settle import settle, settle_back, settle_order
from keepaliveD.sockets import Column

OBJECT = Path(__file__).with_name("arm.bpf.o")
PROGRAM = "arm_sockets"
WISHES = "wishes"
MOST = 100_000  # sockets at a time: less than its max_entries

TIMES = ("idle", "interval", "probes", "on")
WISH = np.dtype([("before", "i4", 4), ("after", "i4", 4), ("verb", "u4")])
RESULT = np.dtype([("cookie", "u8"), ("stands", "i4", 4), ("system", "i4", 4), ("outcome", "u4"), ("unused", "u4")])
LOOK, SET = range(2)
STANDS, DONE, CHANGED, FAILED = range(4)

SCRATCH = 1 << 20

Numbers = tuple[int, int, int, int]  # TIMES
Choice = SocketKeepalive | Fate
Choose = Callable[[Connection, SocketKeepalive, Keepalive], Choice]


class BpfArmer:
    """Arms sockets in all network namespaces that can be entered."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._object: libbpf.Object | None = None
        self._link = -1
        self._known: dict[tuple[int, ...], SocketKeepalive] = {}

    def arm(self, orders: Sequence[Order], earlier: Mapping[int, Armed], keep: Keep) -> list[Arming]:
        """What became of each; raises Unsupported, NotPermitted where it cannot be done here at all."""
        order_of = {order.connection.cookie: order for order in orders}
        decided: dict[tuple[int, int, int], Choice] = {}  # by identity: hashing the values would cost more than settle

        def choose(connection: Connection, before: SocketKeepalive, system: Keepalive) -> Choice:
            order, armed = order_of[connection.cookie], earlier.get(connection.cookie)
            if armed:
                return settle_order(before, system, order.wish, armed, by_hand=order.by_hand, again=order.again)
            question = (id(before), id(system), id(order.wish))
            if question not in decided:
                decided[question] = settle(before, system, order.wish)
            return decided[question]

        return self._each([order.connection for order in orders], choose, keep, Fate.ARMED)

    def disarm(self, connections: Sequence[Connection], earlier: Mapping[int, Armed]) -> list[Arming]:
        """Put back what stood there before, where nobody has set it since."""

        def choose(connection: Connection, before: SocketKeepalive, _: Keepalive) -> Choice:
            return settle_back(before, earlier[connection.cookie])

        return self._each(connections, choose, lambda _: None, Fate.DISARMED)

    def close(self) -> None:
        """Take it out of the kernel."""
        if self._object:
            self._object.close()
        self._object = None

    def _each(self, connections: Sequence[Connection], choose: Choose, keep: Keep, success: Fate) -> list[Arming]:
        armings: list[Arming] = []
        for start in range(0, len(connections), MOST):
            wanted = {one.cookie: one for one in connections[start : start + MOST]}
            cookies = np.fromiter(wanted, np.uint64, len(wanted))
            try:
                armings += self._settle(wanted, cookies, choose, keep, success)
            finally:
                self.load().drop_all(WISHES, cookies)
        return armings

    def _settle(
        self, wanted: dict[int, Connection], cookies: Column, choose: Choose, keep: Keep, success: Fate
    ) -> list[Arming]:
        """Look at all, have recorded what will be done, then do it."""
        found = self._pass(wanted, cookies, np.zeros(len(cookies), WISH))
        armings: list[Arming] = []
        chosen: dict[int, Armed] = {}
        rows: list[int] = []
        told = zip(*(found[name].tolist() for name in ("cookie", "stands", "system")), strict=True)
        for row, (cookie, stands, system) in enumerate(told):
            connection, before = wanted[cookie], self._settings(stands)
            after = choose(connection, before, self._settings(system).times)
            if isinstance(after, Fate):
                armings.append(Arming(connection, after, before, before))
            else:
                chosen[cookie] = Armed(cookie, connection.inode, before, after)
                rows.append(row)
        keep(list(chosen.values()))
        done = self._bring_about(wanted, found[rows], [_numbers(one.after) for one in chosen.values()])
        for cookie, armed in chosen.items():
            if cookie in done:
                outcome, stands = done[cookie]
                fate = success if outcome == DONE else Fate.FAILED
                armings.append(Arming(wanted[cookie], fate, armed.before, self._settings(stands)))
        told_of = {arming.connection.cookie for arming in armings}
        return armings + [Arming(one, Fate.GONE) for cookie, one in wanted.items() if cookie not in told_of]

    def _bring_about(
        self, wanted: dict[int, Connection], found: Column, after: list[Numbers]
    ) -> dict[int, tuple[int, Sequence[int]]]:
        """Outcome and what stands now, by cookie, of those that were still there."""
        wishes = np.zeros(len(found), WISH)
        wishes["before"] = found["stands"]
        wishes["after"] = np.array(after, np.int32).reshape(-1, len(TIMES))
        wishes["verb"] = SET
        done = self._pass(wanted, found["cookie"].copy(), wishes)
        outcomes = zip(done["outcome"].tolist(), done["stands"].tolist(), strict=True)
        return dict(zip(done["cookie"].tolist(), outcomes, strict=True))

    def load(self) -> libbpf.Object:
        """The program, once it is in the kernel. Raises Unsupported, NotPermitted."""
        if self._object is None:
            programs = libbpf.Object(OBJECT)
            try:
                programs.preset(libbpf.CONSTANTS)
                programs.load()
                self._link = programs.attach_iterator(PROGRAM)
            except BaseException:
                programs.close()
                raise
            self._object = programs
        return self._object

    def _pass(self, wanted: dict[int, Connection], cookies: Column, wishes: Column) -> Column:
        """What the program tells of these sockets, each once; of one that is gone, nothing."""
        if not len(cookies):
            return np.empty(0, RESULT)
        self.load().put_all(WISHES, cookies, wishes)
        scratch = memoryview(bytearray(SCRATCH))
        netns = {connection.netns for connection in wanted.values()}
        parts = [part.copy() for each in self._iterators(netns) for part in records(each, RESULT, scratch)]
        results = np.concatenate([np.empty(0, RESULT), *parts])
        _, first = np.unique(results["cookie"], return_index=True)  # a bucket that changes may be walked twice
        return results[first]

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

    def _settings(self, numbers: Sequence[int]) -> SocketKeepalive:
        """Most sockets have the same: each is made once."""
        idle, interval, probes, on = key = tuple(numbers)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = SocketKeepalive(bool(on), Keepalive(idle, interval, probes))
        return known


def _numbers(keepalive: SocketKeepalive) -> Numbers:
    times = keepalive.times
    return times.idle, times.interval, times.probes, int(keepalive.on)
