"""Whoever owns very many of something slows nobody down, and hides nothing but his own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from socket import create_connection, create_server

import psutil

from tests.support.loopback import Host, forgetful
from tests.support.patience import family
from tests.support.processes import SCAN, Daemon
from tests.support.rig import OWN_NETWORK, Stranger

ADDRESSES = 10_000
A_QUARTER = 0.25  # of a core
SOME_SCANS = 20 * SCAN
EVERYWHERE = ('namespaces = "own"', 'namespaces = "all"')
BY_INTERFACE = '[[path]]\nname = "outside"\ninterface = "eth0"\ntimeout = "5min"\n'


def load(daemon: Daemon, seconds: float) -> float:
    """The part of a core that the daemon and its worker take for so long."""
    before, began = _worked(daemon), time.monotonic()
    time.sleep(seconds)
    return (_worked(daemon) - before) / (time.monotonic() - began)


def _worked(daemon: Daemon) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in family(daemon.pid))


def test_whoever_has_ten_thousand_addresses_costs_nobody_any_time(host: Host) -> None:
    """They were all read at each scan, once a path had an interface: that took a second."""
    text = forgetful().replace(*EVERYWHERE) + BY_INTERFACE
    with Stranger() as stranger, ExitStack() as stack:
        own = OWN_NETWORK.replace("127", "10", 1).split(".")[1]
        stranger.ip(*(f"address add 10.{own}.{n // 250}.{n % 250}/32 dev lo" for n in range(ADDRESSES)))
        listener = stack.enter_context(stranger.inside(lambda: create_server(("127.0.0.1", 0))))
        near = stack.enter_context(stranger.inside(lambda: create_connection(listener.getsockname())))
        with host.daemon(text) as daemon:
            assert load(daemon, SOME_SCANS) < A_QUARTER
            daemon.stop()
        near.close()
