"""client -- firewall -- server: three network namespaces, and a firewall that forgets idle connections.

Nothing has a name or an address outside, so any number of rigs stand side by side.
Nothing can be left behind: a namespace lives as long as its holder, and holders and programs die
with the thread that started them (PR_SET_PDEATHSIG), even when that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import AF_INET, AF_INET6
from threading import Lock
from typing import Literal, Self, TypeVar

Result = TypeVar("Result")
Mode = Literal["drop", "reject"]  # what the firewall does to a packet of a connection it does not know

TIMEOUT = 12  # seconds without a packet after which the firewall forgets, unless told otherwise
SERVER = {AF_INET: "10.99.2.2", AF_INET6: "fd99:2::2"}
CLIENT_NETWORKS = ("10.99.1.0/24", "fd99:1::/64")
SERVER_NETWORKS = ("10.99.2.0/24", "fd99:2::/64")

TIME = "net.ipv4.tcp_keepalive_time"
INTERVAL = "net.ipv4.tcp_keepalive_intvl"
PROBES = "net.ipv4.tcp_keepalive_probes"
UNTUNED = {TIME: 7200, INTERVAL: 75, PROBES: 9}  # as the kernel makes a namespace

# Loopback addresses of this process alone: daemons of other tests enter all network namespaces, and would arm what is
# theirs.
OWN_NETWORK = "127.{}.{}".format(*os.urandom(2))

DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
OWN_PINS = "mount -t bpf bpf /sys/fs/bpf 2>/dev/null"  # where the kernel has BPF, and they may
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
LIBC = ctypes.CDLL(None, use_errno=True)
FORKING = Lock()  # held while a program starts, which until then has a copy of all descriptors that are open here


class Namespace:
    """A network namespace without a name, held by a process that does nothing else; made in `maker`, if given.

    What runs in here has a BPF file system of its own, too: what one daemon pins, others would take over.
    """

    UNSHARE: tuple[str, ...] = ("unshare", "--net", "--mount", "--propagation=slave")
    ENTER: tuple[str, ...] = ("--net", "--mount")

    def __init__(self, maker: Namespace | None = None) -> None:
        inside = maker._enter() if maker else DIE_WITH_US
        pipe = subprocess.PIPE
        command = [*inside, *self.UNSHARE, *DIE_WITH_US, "sh", "-c", f"{OWN_PINS}; echo; exec cat"]
        with FORKING:
            self._holder = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        assert self._holder.stdout
        assert self._holder.stdout.readline(), "no network namespace can be made here"
        self.pid = self._holder.pid
        self.inode = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        self.ip("link set lo up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()

    def inside(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, done by a thread in here: its sockets and its /proc/sys/net are those of here."""

        def enter_and_work() -> Result:
            with open(f"/proc/{self.pid}/ns/net", "rb") as namespace:
                if LIBC.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return work()

        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(enter_and_work).result()

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """A program that runs in here, under the process id of the Popen, until the end of the block."""
        pipe = subprocess.PIPE
        with FORKING:
            process = subprocess.Popen(self._enter(*command), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        with process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """What came of a program that ran in here until it ended."""
        with self.running(*command) as process:
            output, errors = process.communicate(given, timeout=600)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def ip(self, *commands: str) -> None:
        """Have ip(8) do all of this in here."""
        self._must("ip", "-batch", "-", given="\n".join(commands))

    def nft(self, rules: str) -> None:
        """Have nft(8) load these rules in here."""
        self._must("nft", "--file", "-", given=rules)

    def sysctl(self, key: str) -> int:
        """What stands there."""
        return self.inside(lambda: int(_file(key).read_text(encoding="ascii")))

    def set_sysctl(self, key: str, value: int | str) -> None:
        """Set it, as somebody else would."""
        self.inside(lambda: _file(key).write_text(f"{value}\n", encoding="ascii"))

    def use_addresses_at_once(self) -> None:
        """Let no interface try out its link-local address (RFC 4862): IPv6 asks no neighbour for seconds meanwhile."""
        for interfaces in ("all", "default"):
            self.set_sysctl(f"net.ipv6.conf.{interfaces}.accept_dad", 0)

    @property
    def keepalive(self) -> dict[str, int]:
        """The keepalive settings that stand in here."""
        return self.inside(lambda: {key: int(_file(key).read_text(encoding="ascii")) for key in UNTUNED})

    @keepalive.setter
    def keepalive(self, values: dict[str, int]) -> None:
        for key, value in values.items():
            self.set_sysctl(key, value)

    def _must(self, *command: str, given: str) -> None:
        done = self.run(*command, given=given)
        assert done.returncode == 0, done.stderr

    def _enter(self, *command: str) -> list[str]:
        entered = ("nsenter", f"--target={self.pid}", *self.ENTER, f"--wdns={os.getcwd()}", "--")
        return [*DIE_WITH_US, *entered, *DIE_WITH_US, *command]  # new credentials undo the first


class Stranger(Namespace):
    """What a user without any privilege makes: a user namespace, and the network namespace that he rules in it."""

    UNSHARE = (*("setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"), "unshare", "--map-root-user", "--net")
    ENTER = ("--user", "--net")


class Rig:
    """The three namespaces, wired; the firewall forgets a connection `timeout` seconds after its last packet."""

    def __init__(self, mode: Mode = "reject", timeout: int = TIMEOUT) -> None:
        with contextlib.ExitStack() as stack:
            self.client = stack.enter_context(Namespace())
            self.firewall = stack.enter_context(Namespace())
            self.server = stack.enter_context(Namespace())
            self._wire()
            self._guard(mode, timeout)
            self._ends = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _wire(self) -> None:
        for each in (self.client, self.firewall, self.server):
            each.use_addresses_at_once()
        ends = {1: self.client, 2: self.server}
        for net, end in ends.items():
            self.firewall.ip(
                f"link add side{net} type veth peer name eth0 netns {end.pid}", *_addresses(net, 1, f"side{net}")
            )
            end.ip(
                *_addresses(net, 2, "eth0"),
                f"route add default via 10.99.{net}.1",
                f"route add default via fd99:{net}::1",
            )

    def _guard(self, mode: Mode, timeout: int) -> None:
        self.firewall.nft(f"""
            table inet guard {{
                chain through {{
                    type filter hook forward priority filter; policy drop;
                    ct state established accept
                    tcp flags & (fin | syn | rst | ack) == syn ct state new accept
                    {"meta l4proto tcp reject with tcp reset" if mode == "reject" else ""}
                }}
            }}""")
        self.server.set_sysctl("net.ipv4.ip_local_port_range", "20000 29999")  # a service's are below those of clients
        self.firewall.set_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", timeout)
        self.firewall.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)  # no connection is picked up midway
        self.firewall.set_sysctl("net.ipv4.ip_forward", 1)
        self.firewall.set_sysctl("net.ipv6.conf.all.forwarding", 1)


def _addresses(net: int, host: int, interface: str) -> list[str]:
    return [
        f"address add 10.99.{net}.{host}/24 dev {interface}",
        f"address add fd99:{net}::{host}/64 dev {interface} nodad",
        f"link set {interface} up",
    ]


def _file(key: str) -> Path:
    return Path("/proc/sys", *key.split("."))
