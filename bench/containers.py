"""A scan of a host full of containers: the same sockets, spread over many network namespaces, by each engine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path as File

from bench import hold
from bench.rows import Row, show
from bench.scan import ROUNDS, in_turns
from keepaliveD.platforms.linux.bpf.reader import BpfIterator
from keepaliveD.platforms.linux.bpf.walker import BpfWalker
from keepaliveD.platforms.linux.reading.engine import Engine
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher

CONTAINERS, EACH = 100, 500  # sockets
IN_A_CONTAINER = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "container")


@contextlib.contextmanager
def containers() -> Iterator[None]:
    """While inside, they are there; they end with this process, however it ends."""
    command = [*IN_A_CONTAINER, sys.executable, "-S", hold.__file__, str(EACH), "1", hold.HOLDER, "127.0.0.1"]
    with contextlib.ExitStack() as stack:
        holders = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(CONTAINERS)
        ]
        if sum(map(hold.said, holders)) != CONTAINERS * EACH:
            raise SystemExit(f"could not hold {EACH} sockets in each of {CONTAINERS} network namespaces")
        yield


def by(engine: Engine) -> Callable[[], float]:
    """A scan of all namespaces."""
    watcher = SocketWatcher(File("/"), engine)

    def scan() -> float:
        start = time.perf_counter()
        seen = len(watcher.scan(time.monotonic()))
        if seen < CONTAINERS * EACH:
            raise SystemExit(f"{seen} sockets were seen")
        return time.perf_counter() - start

    return scan


def main() -> int:
    """Measure in turns, and show."""
    with containers():
        walk, iterator, netlink = in_turns(by(BpfWalker()), by(BpfIterator()), by(Netlink()))
    return show(
        f"scan of {CONTAINERS * EACH:,} sockets in {CONTAINERS} network namespaces, medians of {ROUNDS} rounds",
        [
            Row("BPF, one pass", walk * 1e3, "ms"),
            Row("BPF, one after the other", iterator * 1e3, "ms"),
            Row("by netlink", netlink * 1e3, "ms"),
            Row("by netlink / BPF", netlink / walk),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
