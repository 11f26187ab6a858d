"""Whoever makes our close of his socket the last one, which lingers, hangs a worker and nobody else."""

from __future__ import annotations

from tests.support.loopback import Host, ends_at_once, forgetful, near_end
from tests.support.patience import SOON
from tests.support.processes import ENABLE, tell
from tests.support.rig import DIE_WITH_US

COUNT = 10  # sockets: some of them are still to be set when the first has keepalive
# Each option takes 10 ms to set, in place of microseconds: who waits for the first one is then quick enough to close
# the sockets, however busy the machine is. With -D the daemon is our child, and not the tracer's.
SLOWLY = ("strace", "-D", "-f", "-qq", "--seccomp-bpf", "--trace=setsockopt", "--inject=setsockopt:delay_exit=10000")
NO_GOODBYE = "table ip lost { chain out { type filter hook output priority 0; tcp flags & fin == fin drop; }; }"


def test_a_close_that_lingers_for_days_delays_nobody_for_long(host: Host) -> None:
    """The peer never hears that they are closed, so the kernel lets whoever closes last wait for its answer."""
    host.namespace.nft(NO_GOODBYE)
    program = host.program("lingerer", str(COUNT))
    slowly = (*SLOWLY, f"--output={host.directory}/trace", *DIE_WITH_US)
    with host.daemon(forgetful(ENABLE, apply=True), through=slowly) as daemon:
        daemon.expect("hung", within=SOON)
        daemon.expect("armed", within=SOON, **near_end(host.connection()))
        ends_at_once(host, daemon)
    tell(program)
    assert program.wait(SOON) == 0
