"""Look at the sockets of this namespace by BPF, lose bpf(2), and look again.

usage: python -m tests.kernel.losing_bpf walk|iterator
Prints a line of JSON for each look: how sockets were read, and their cookies.
"""

import json
import sys

from keepaliveD.platforms.linux.bpf.reader import BpfIterator
from keepaliveD.platforms.linux.bpf.walker import BpfWalker
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from tests.support import seccomp


def main() -> None:
    """Look twice."""
    engine = {"walk": BpfWalker, "iterator": BpfIterator}[sys.argv[1]]()
    watcher = SocketWatcher(engine=engine, spare=Netlink(), all_namespaces=False)
    for _ in range(2):
        cookies = watcher.scan(0.0).sockets["cookie"].tolist()
        print(json.dumps([watcher.engine_description, sorted(cookies)]))
        seccomp.refuse(seccomp.BPF)


if __name__ == "__main__":
    main()
