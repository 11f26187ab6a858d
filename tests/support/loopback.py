"""A host with connections to itself that, as the daemon is told, are soon forgotten: to see what it does about them.

Nothing is forgotten really, so that there is nothing to wait for.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    create_connection,
    create_server,
    socket,
)
from subprocess import Popen
from typing import NamedTuple, Self

from tests.support.patience import SOON, ending
from tests.support.processes import SCAN, TUNED, Daemon, Entry, Home
from tests.support.rig import INTERVAL, OWN_NETWORK, PROBES, TIME, UNTUNED, Namespace

HOSTILE = str(Path(__file__).with_name("hostile.py"))
ATTACKS = str(Path(__file__).with_name("attacks.py"))
FORGOTTEN = f"{OWN_NETWORK}.1"  # as peers are
LASTING = f"{OWN_NETWORK}.2"  # as peers are not
SOON_FORGOTTEN = 90  # seconds: longer than a busy machine takes until a daemon first reads the sockets
DEAF = 9  # the port where nobody answers
A_FEW_SCANS = 3 * SCAN
AT_ONCE = 2.0  # seconds in which a daemon that is told to end must have ended


def forgetful(rule: str = "", timeout: float = SOON_FORGOTTEN, *, apply: bool = False) -> str:
    """A configuration under which those peers are forgotten, and their connections armed by this [[arm]] rule.

    By way of the processes that hold them: the other engine asks no process.
    """
    return f"""
        [keepalive]
        apply = {str(apply).lower()}
        idle = "{TUNED[TIME]}s"
        interval = "{TUNED[INTERVAL]}s"
        probes = {TUNED[PROBES]}
        [watch]
        engine = "netlink"
        interval = "{SCAN}s"
        warn_before = "1min"
        namespaces = "own"
        ignore = []
        default_timeout = "infinity"
        [[path]]
        name = "to itself"
        networks = ["{FORGOTTEN}/32"]
        timeout = "{timeout}s"
        {"[[arm]]" if rule else ""}
        {rule}
    """


class Settings(NamedTuple):
    """Keepalive of a socket; times are seconds."""

    on: bool
    idle: int
    interval: int
    probes: int


BARE = Settings(False, UNTUNED[TIME], UNTUNED[INTERVAL], UNTUNED[PROBES])
# What "auto" makes of BARE: two probes fit into 90 s, late ones, and an outage of 8 times 75 s is borne as before.
SAFE = Settings(True, 74, 5, 121)


def settings(sock: socket) -> Settings:
    """What stands there."""
    return Settings(
        bool(sock.getsockopt(SOL_SOCKET, SO_KEEPALIVE)),
        sock.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE),
        sock.getsockopt(IPPROTO_TCP, TCP_KEEPINTVL),
        sock.getsockopt(IPPROTO_TCP, TCP_KEEPCNT),
    )


def near_end(sock: socket) -> Entry:
    """What an entry of the log about this connection says."""
    return {"KEEPALIVE_LOCAL_PORT": sock.getsockname()[1], "KEEPALIVE_REMOTE_PORT": sock.getpeername()[1]}


def far_end(sock: socket) -> Entry:
    """The same, told by the other end."""
    return {"KEEPALIVE_LOCAL_PORT": sock.getpeername()[1], "KEEPALIVE_REMOTE_PORT": sock.getsockname()[1]}


def everywhere(configuration: str) -> str:
    """The same for all network namespaces."""
    return configuration.replace('namespaces = "own"', 'namespaces = "all"')


def by(engine: str, configuration: str) -> str:
    """The same by this engine."""
    return configuration.replace('engine = "netlink"', f'engine = "{engine}"')


class Host:
    """A namespace that listens on both addresses, made in `maker`, if given; what is made here ends with it."""

    def __init__(self, directory: Path, maker: Namespace | None = None) -> None:
        self.directory = directory
        with contextlib.ExitStack() as stack:
            self.namespace = stack.enter_context(Namespace(maker))
            self.namespace.nft(
                f"table ip deaf {{ chain in {{ type filter hook input priority 0; tcp dport {DEAF} drop; }}; }}"
            )
            self.listeners = {address: stack.enter_context(self._listen(address)) for address in (FORGOTTEN, LASTING)}
            self._ends = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def connect(self, address: str = FORGOTTEN) -> tuple[socket, socket]:
        """Both ends of a connection, held by this process; the first is the one at risk."""
        listener = self.listeners[address]
        near = self._ends.enter_context(self.namespace.inside(lambda: create_connection(listener.getsockname())))
        return near, self.accept(address)

    def connection(self) -> socket:
        """The end at risk of one."""
        return self.connect()[0]

    def unanswered(self) -> socket:
        """A socket that asked for a connection."""
        sock = self._ends.enter_context(self.namespace.inside(socket))
        sock.setblocking(False)
        sock.connect_ex((FORGOTTEN, DEAF))
        return sock

    def accept(self, address: str = FORGOTTEN) -> socket:
        """The far end of the next connection."""
        return self._ends.enter_context(self.listeners[address].accept()[0])

    def program(self, behaviour: str, *arguments: str, through: tuple[str, ...] = ()) -> Popen[str]:
        """One of those in hostile.py; `through` a command that runs it."""
        places = [f"{address}:{listener.getsockname()[1]}" for address, listener in self.listeners.items()]
        command = (*through, sys.executable, "-S", HOSTILE, *places, behaviour, *arguments)
        return self._ends.enter_context(self.namespace.running(*command))

    def daemon(
        self, configuration: str, *options: str, through: tuple[str, ...] = ()
    ) -> contextlib.AbstractContextManager[Daemon]:
        """The daemon, running and ready."""
        return Home(self.directory, configuration).daemon(self.namespace, *options, through=through)

    @contextlib.contextmanager
    def attacked(self, attack: str, *arguments: str, through: tuple[str, ...] = ()) -> Iterator[Popen[str]]:
        """One of the attacks in attacks.py by a user without privileges; `through` a command that runs it."""
        with self.namespace.running(*through, sys.executable, "-S", ATTACKS, attack, *arguments) as process:
            try:
                yield process
            finally:
                process.communicate()  # the end of its input is its own

    def _listen(self, address: str) -> socket:
        listener = self.namespace.inside(lambda: create_server((address, 0), backlog=100))
        listener.settimeout(SOON)
        return listener


def ends_at_once(host: Host, daemon: Daemon) -> None:
    """Told to end, it does, with the settings restored."""
    daemon.send(signal.SIGTERM)
    seconds, unserved = ending(daemon.pid)
    assert daemon.wait() == 0
    assert seconds - unserved < AT_ONCE
    assert host.namespace.keepalive == UNTUNED
