"""Connections that are armed while they are opened; the program is attached to a cgroup of the test's own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily

import pytest

from keepaliveD.model import ArmAction, ArmRule, Keepalive, Owner, SocketKeepalive, Wish
from keepaliveD.platforms.linux.bpf.connect import MOST, ConnectArmer, cgroup_root
from keepaliveD.policy.connect import Opening
from keepaliveD.policy.settle import settle
from tests.kernel.processes import CTL, SOON, Daemon, Home
from tests.kernel.rig import DIE_WITH_US, Namespace

OURS = Keepalive(180, 20, 31)
ANY = Opening(None, 0, OURS)
V4, V6 = (AF_INET, "127.0.0.1"), (AF_INET6, "::1")
UNTOUCHED = "False 7200 75 9"
ARMED = "True 180 20 31"
SYSTEM = [UNTOUCHED, UNTOUCHED]

PROGRAM = """
import os, sys
from socket import *
def tell(s):
    print(bool(s.getsockopt(SOL_SOCKET, SO_KEEPALIVE)),
          *(s.getsockopt(IPPROTO_TCP, o) for o in (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)), flush=True)
cgroup, family, address, port, before = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
with open(f"{cgroup}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
listener = create_server((address, port), family=family)
near = socket(family)
exec(before)
near.connect(listener.getsockname())
tell(near)
far = listener.accept()[0]
tell(far)
near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900)
tell(near)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """One that nobody else is in; those of tests that were killed go first."""
    root = cgroup_root(Path("/"))
    for stale in root.glob("keepalived-test-*"):
        if not Path("/proc", stale.name.split("-")[2]).exists():
            with contextlib.suppress(OSError):
                stale.rmdir()
    path = Path(tempfile.mkdtemp(prefix=f"keepalived-test-{os.getpid()}-", dir=root))
    try:
        yield path
    finally:
        path.rmdir()


def opened(cgroup: Path, peer: tuple[AddressFamily, str] = V4, port: int = 0, before: str = "") -> list[str]:
    """What both ends tell right after connect and accept, and the near one once it has chosen its own."""
    with Namespace() as host:
        command = (sys.executable, "-c", PROGRAM, str(cgroup), str(int(peer[0])), peer[1], str(port), before)
        done = host.run(*DIE_WITH_US, *command)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("peer", [V4, V6])
def test_a_connection_is_armed_before_connect_and_accept_return(cgroup: Path, peer: tuple[AddressFamily, str]) -> None:
    assert opened(cgroup, peer)[:2] == SYSTEM
    with contextlib.closing(ConnectArmer(cgroup, [ANY])):
        assert opened(cgroup, peer)[:2] == [ARMED, ARMED]
    assert opened(cgroup, peer)[:2] == SYSTEM


def test_what_a_program_sets_afterwards_is_its_own(cgroup: Path) -> None:
    with contextlib.closing(ConnectArmer(cgroup, [ANY])):
        assert opened(cgroup)[2] == "True 900 20 31"


def test_what_is_stricter_stays_and_what_is_laxer_is_tightened(cgroup: Path) -> None:
    """Before the connection, or at the listener, which hands its settings down."""
    strict = "near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 60); listener.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 5)"
    lax = "near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900); near.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, 3)"
    with contextlib.closing(ConnectArmer(cgroup, [ANY])):
        assert opened(cgroup, before=strict)[:2] == ["True 60 20 31", "True 180 5 31"]
        assert opened(cgroup, before=lax)[0] == "True 180 20 3"


SYSCTLS = """
for name, value in zip(("time", "intvl", "probes"), {0}):
    with open(f"/proc/sys/net/ipv4/tcp_keepalive_{{name}}", "w") as setting:
        setting.write(str(value))
for option, value in {1}.items():
    near.setsockopt(IPPROTO_TCP, option, value)
"""


@pytest.mark.parametrize("system", [(7200, 75, 9), (180, 20, 31), (60, 5, 3), (0, 0, 0), (-1, -1, 200)])
@pytest.mark.parametrize("chosen", [{}, {4: 60}, {4: 900, 5: 75}, {5: 5, 6: 9}, {4: 180, 5: 20, 6: 31}, {4: 1, 6: 127}])
def test_what_is_set_is_what_policy_would_set_in_an_open_socket(
    cgroup: Path, system: tuple[int, int, int], chosen: dict[int, int]
) -> None:
    """Whatever its program has chosen (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT), and whatever the sysctls say."""
    times = Keepalive(*(chosen.get(option, system[option - 4]) for option in (4, 5, 6)))
    wish = Wish(ArmRule("test", ArmAction.ENABLE, OURS.idle, OURS.interval, OURS.probes), OURS)
    settled = settle(SocketKeepalive(False, times), Keepalive(*system), wish)
    assert isinstance(settled, SocketKeepalive)
    want = f"True {settled.times.idle} {settled.times.interval} {settled.times.probes}"
    with contextlib.closing(ConnectArmer(cgroup, [ANY])):
        assert opened(cgroup, before=SYSCTLS.format(system, chosen))[0] == want


def test_as_many_rules_as_it_knows_are_followed_to_the_last(cgroup: Path) -> None:
    others = [Opening(ipaddress.ip_network(f"10.{number}.0.0/16"), 0, None) for number in range(MOST - 1)]
    with contextlib.closing(ConnectArmer(cgroup, [*others, ANY])):
        assert opened(cgroup)[:2] == [ARMED, ARMED]


MAPPED = """
listener = socket(AF_INET6)
listener.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
listener.bind(("::ffff:127.0.0.1", 0))
listener.listen()
"""


def test_an_ipv4_peer_is_known_also_where_an_ipv6_socket_speaks_to_it(cgroup: Path) -> None:
    """As a v4-mapped address: RFC 4291, 2.5.5.2."""
    assert opened(cgroup, V6, before=MAPPED)[:2] == SYSTEM
    with contextlib.closing(ConnectArmer(cgroup, [Opening(ipaddress.ip_network("127.0.0.0/8"), 0, OURS)])):
        assert opened(cgroup, V6, before=MAPPED)[:2] == [ARMED, ARMED]


def test_the_first_rule_that_matches_counts(cgroup: Path) -> None:
    ten = ipaddress.ip_network("10.0.0.0/8")
    loopback = ipaddress.ip_network("127.0.0.0/8")
    for rules, outcome in (
        ([Opening(ten, 0, OURS)], UNTOUCHED),
        ([Opening(loopback, 0, OURS)], ARMED),
        ([Opening(loopback, 0, None), ANY], UNTOUCHED),
        ([Opening(ten, 0, None), ANY], ARMED),
        ([Opening(ipaddress.ip_network("::/1"), 4242, OURS)], ARMED),
        ([Opening(None, 4243, OURS)], UNTOUCHED),
        ([Opening(ipaddress.ip_network("::1/128"), 0, OURS)], UNTOUCHED),
    ):
        with contextlib.closing(ConnectArmer(cgroup, rules)):
            assert opened(cgroup, port=4242)[:2] == [outcome, outcome], rules


def test_a_rule_for_a_unit_or_container_concerns_sockets_of_its_cgroups(cgroup: Path) -> None:
    """And others are tried where it does not; of a cgroup that is not known, nobody can tell."""
    backup = Opening(None, 0, OURS, ArmRule("backup", ArmAction.ENABLE, 180, 20, 31, units=("backup@*",)))
    left = Opening(None, 0, None, ArmRule("guest", ArmAction.OBSERVE, 180, 20, 31, containers=("c1",)))
    mild = Opening(None, 0, Keepalive(500, 50, 5))
    owners: dict[int, Owner] = {}
    with contextlib.closing(ConnectArmer(cgroup, [backup, left, mild], owners=lambda: owners)) as armer:
        for owner, outcome in (
            (None, UNTOUCHED),
            (Owner(unit="backup@home.service"), ARMED),
            (Owner(unit="ssh.service"), "True 500 50 5"),
            (Owner(container="c1"), UNTOUCHED),
            (Owner(unit="backup@c1.service", container="c1"), ARMED),
        ):
            owners.clear()
            armer.look_around()
            if owner:
                owners[cgroup.stat().st_ino] = owner
                armer.look_around()
            assert opened(cgroup)[:2] == [outcome, outcome], owner


def test_others_programs_in_the_same_cgroup_go_on(cgroup: Path) -> None:
    """Cilium, say: here it is another one of ours, with other values."""
    mild = Opening(None, 0, Keepalive(500, 50, 5))
    with contextlib.closing(ConnectArmer(cgroup, [mild])), contextlib.closing(ConnectArmer(cgroup, [ANY])):
        assert opened(cgroup)[0] == "True 180 20 5"


def test_it_ends_with_its_process_however_that_ends(cgroup: Path) -> None:
    """Nothing is pinned."""
    script = (
        "import sys; from pathlib import Path; from keepaliveD.model import Keepalive;"
        "from keepaliveD.policy.connect import Opening;"
        "from keepaliveD.platforms.linux.bpf.connect import ConnectArmer;"
        "held = ConnectArmer(Path(sys.argv[1]), [Opening(None, 0, Keepalive(180, 20, 31))]); print(flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([*DIE_WITH_US, sys.executable, "-c", script, str(cgroup)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        assert opened(cgroup)[0] == ARMED
        holder.kill()
    assert opened(cgroup)[0] == UNTOUCHED


def test_where_it_cannot_be_pinned_it_is_at_work_nevertheless_and_says_why(cgroup: Path, tmp_path: Path) -> None:
    """On another file system, and where no directory can be made."""
    for pin in (tmp_path / "connect", Path("/proc/tcp-keepalived/connect")):
        with contextlib.closing(ConnectArmer(cgroup, [ANY], pin)) as held:
            assert held.unpinned.startswith(f"{pin}: ")
            assert opened(cgroup)[0] == ARMED
        assert not pin.exists()
        assert opened(cgroup)[0] == UNTOUCHED


def test_a_new_program_takes_the_pin_of_the_one_before(cgroup: Path) -> None:
    """As after a restart."""
    pins = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "bpf", "bpf", str(pins)], check=True)
    try:
        pin = pins / "ours/connect"
        ConnectArmer(cgroup, [ANY], pin).close()
        again = ConnectArmer(cgroup, [Opening(None, 0, Keepalive(60, 5, 9))], pin)
        again.close()
        assert (again.unpinned, opened(cgroup)[0]) == ("", "True 60 5 9")
        pin.unlink()
    finally:
        subprocess.run(["umount", str(pins)], check=True)
        os.rmdir(pins)


def test_where_it_is_pinned_it_outlives_its_process_until_it_is_removed(cgroup: Path) -> None:
    """survive_stop = true."""
    pins = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "bpf", "bpf", str(pins)], check=True)
    try:
        pin = pins / "connect"
        ConnectArmer(cgroup, [ANY], pin).close()
        assert opened(cgroup)[0] == ARMED
        pin.unlink()
        assert opened(cgroup)[0] == UNTOUCHED
    finally:
        subprocess.run(["umount", str(pins)], check=True)
        os.rmdir(pins)


RULES = """
    [keepalive]
    apply = false
    survive_stop = {survive}
    [watch]
    interval = "250ms"
    warn_before = "1s"
    ignore = []
    default_timeout = "infinity"
    [[arm]]
    networks = ["127.0.0.0/8"]
    action = "enable"
    idle = "180s"
"""


class Guest:
    """A host whose cgroup v2 begins at a cgroup of the test's, with pins and a network of its own."""

    def __init__(self, cgroup: Path, home: Home) -> None:
        self.home = home
        self.outside = cgroup
        self.cgroups = cgroup.parent  # where that is seen from in there
        prepare = (
            f"ip link set lo up && mount --bind {cgroup} {self.cgroups} && mount -t bpf bpf /sys/fs/bpf "
            "&& echo && exec cat"
        )
        enter = f"echo $$ > {cgroup}/cgroup.procs && exec unshare --net --mount sh -c '{prepare}'"
        self._holder = subprocess.Popen(
            [*DIE_WITH_US, "sh", "-c", enter], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline()

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()

    def command(self, *command: str) -> list[str]:
        return [*DIE_WITH_US, "nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--", *command]

    def run(self, *command: str) -> str:
        done = subprocess.run(self.command(*command), capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def opened(self, unit: str = "") -> list[str]:
        """What both ends tell of a new connection, before anything else can have happened to it."""
        return self.run(
            sys.executable, "-c", PROGRAM, str(self.cgroups / unit), str(int(AF_INET)), V4[1], "0", ""
        ).splitlines()[:2]

    @contextlib.contextmanager
    def daemon(self) -> Iterator[Daemon]:
        with subprocess.Popen(
            self.command(*self.home.command), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            daemon = Daemon(process, self.home)
            try:
                daemon.expect("started")
                yield daemon
            finally:
                daemon.kill()


@pytest.fixture
def guest(cgroup: Path, tmp_path: Path) -> Iterator[Guest]:
    with contextlib.closing(Guest(cgroup, Home(tmp_path / "home", RULES.format(survive="false")))) as guest:
        yield guest


def test_under_a_daemon_no_new_connection_is_ever_unprotected_and_its_end_leaves_nothing(guest: Guest) -> None:
    """However it ends."""
    assert guest.opened() == SYSTEM
    pins = guest.run("find", "/sys/fs/bpf")
    with guest.daemon() as daemon:
        assert "new connections are armed at connect" in daemon.expect("started")["MESSAGE"]
        assert guest.opened() == [ARMED, ARMED]
        daemon.kill()
    assert guest.opened() == SYSTEM
    assert guest.run("find", "/sys/fs/bpf") == pins


def test_under_a_daemon_no_new_connection_of_a_unit_that_was_there_before_is_unprotected(guest: Guest) -> None:
    """One that comes later is known from the next scan on."""
    guest.home.configure(RULES.format(survive="false").replace("[[arm]]", '[[arm]]\nunit = "backup*.service"'))
    backup, late, other = (guest.outside / f"{name}.service" for name in ("backup", "backup-late", "other"))
    backup.mkdir()
    other.mkdir()
    try:
        with guest.daemon():
            assert guest.opened("backup.service") == [ARMED, ARMED]
            assert guest.opened("other.service") == SYSTEM
            late.mkdir()
            deadline = time.monotonic() + SOON
            while guest.opened(late.name) != [ARMED, ARMED]:
                assert time.monotonic() < deadline
    finally:
        for unit in (backup, late, other):
            if unit.exists():
                unit.rmdir()


def test_protection_that_is_to_survive_does_until_it_is_disarmed(guest: Guest) -> None:
    guest.home.configure(RULES.format(survive="true"))
    with guest.daemon() as daemon:
        daemon.stop()
    assert guest.opened() == [ARMED, ARMED]
    assert "/sys/fs/bpf/tcp-keepalived/connect arms new connections" in guest.run(*CTL, "engine")
    assert "is removed" in guest.run(*CTL, "disarm", f"--state-dir={guest.home.state}")
    assert guest.opened() == SYSTEM
    assert guest.run(*CTL, "engine").splitlines()[-1] == "pinned: nothing"
