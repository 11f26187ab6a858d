"""Connections that are armed while they are opened; the program is attached to a cgroup of the test's own."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import ipaddress
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily

import pytest

from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import Exit, Unsupported
from keepaliveD.model.keepalive import ALL, Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import ArmAction, ArmRule, IPNetwork
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.platforms.linux.bpf import libbpf, recall
from keepaliveD.platforms.linux.bpf.connect import OBJECT, SHARED, ConnectArmer, cgroup_root
from keepaliveD.platforms.linux.bpf.connect import PROGRAM as PROGRAM_NAME
from keepaliveD.platforms.linux.bpf.pins import Pins
from keepaliveD.platforms.linux.capabilities import SYS_ADMIN
from keepaliveD.platforms.linux.owners.cgroups import Cgroup
from keepaliveD.policy.arming.arming import times
from keepaliveD.policy.arming.connect import MOST_OPENINGS, plan
from tests.support.armed_at_connect import AUTO, MANY, OURS, SHIPPED, SHORT, TABLE, Case, by_scan
from tests.support.patience import SOON, STALL, wait_for
from tests.support.processes import CTL, Daemon, Home
from tests.support.rig import DIE_WITH_US, OWN_NETWORK, Namespace
from tests.support.tables import CONFIGURED

DEFAULT = NetworkPath("default", 240.0, CONFIGURED)
ENABLE = ArmRule("all", ArmAction.ENABLE, 180, 20, 31)
LEAVE = ArmRule("rest", ArmAction.OBSERVE, 180, 20, 31)
TEN, LOOPBACK = ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.0/8")
LOOPBACK_IPV6 = ipaddress.ip_network("::1/128")
V4, V6 = (AF_INET, "127.0.0.1"), (AF_INET6, "::1")
SOCK_OPS = 3  # enum bpf_attach_type
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
near.bind((listener.getsockname()[0], 0))
near.connect(listener.getsockname())
tell(near)
far = listener.accept()[0]
tell(far)
near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900)
tell(near)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """One that nobody else is in; those of tests that were killed go first, where their process ids are ours, too."""
    root = cgroup_root(Path("/"))
    prefix = f"keepalived-test-{os.stat('/proc/self/ns/pid').st_ino}"
    for stale in root.glob(f"{prefix}-*"):
        if not Path("/proc", stale.name.split("-")[3]).exists():
            with contextlib.suppress(OSError):
                stale.rmdir()
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-", dir=root))
    try:
        yield path
    finally:
        path.rmdir()


NONE: Mapping[int, Cgroup] = {}
MILD = ArmRule("mild", ArmAction.ENABLE, 200, 50, 15)


class Told:
    """The cgroups that a test tells of."""

    def __init__(self, cgroups: Mapping[int, Cgroup]) -> None:
        self._cgroups = cgroups

    def outline(self) -> Mapping[int, Cgroup]:
        return self._cgroups

    def of(self, wanted: Iterable[int]) -> Mapping[int, Cgroup]:
        return {cgroup: self._cgroups.get(cgroup, Cgroup("")) for cgroup in wanted}


@contextlib.contextmanager
def arming(
    cgroup: Path,
    *rules: ArmRule,
    paths: Sequence[NetworkPath] = (DEFAULT,),
    pins: Pins | None = None,
    survive: bool = False,
    owners: Mapping[int, Cgroup] = NONE,
    ignore: Sequence[IPNetwork] = (),
) -> Iterator[ConnectArmer]:
    """Connections in this cgroup are armed by these rules."""
    armer = ConnectArmer(cgroup, plan(rules, ignore, paths), pins, survive=survive, cgroups=Told(owners))
    try:
        yield armer
    finally:
        armer.close()


@contextlib.contextmanager
def alone(cgroup: Path) -> Iterator[None]:
    """Somebody else's program is attached there without BPF_F_ALLOW_MULTI."""
    programs = libbpf.Object(OBJECT, SHARED)
    library = ctypes.CDLL(libbpf.LIBRARY, use_errno=True)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        programs.preset(libbpf.CONSTANTS.tobytes())
        programs.load()
        assert library.bpf_prog_attach(programs.program_fd(PROGRAM_NAME), directory, SOCK_OPS, 0) == 0
        yield
        assert library.bpf_prog_detach(directory, SOCK_OPS) == 0
    finally:
        os.close(directory)
        programs.close()


def tell(settings: SocketKeepalive) -> str:
    """As PROGRAM does."""
    return " ".join(map(str, (settings.on, *settings.times)))


def opened(cgroup: Path, peer: tuple[AddressFamily, str] = V4, port: int = 0, before: str = "") -> list[str]:
    """What both ends tell right after connect and accept, and the near one once it has chosen its own.

    Both are on one host, at the same address.
    """
    with Namespace() as host:
        if peer not in (V4, V6):
            assert host.run("ip", "address", "add", peer[1], "dev", "lo", "noprefixroute").returncode == 0
        command = (sys.executable, "-c", PROGRAM, str(cgroup), str(int(peer[0])), peer[1], str(port), before)
        done = host.run(*DIE_WITH_US, *command)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("peer", [V4, V6])
def test_a_connection_is_armed_before_connect_and_accept_return(cgroup: Path, peer: tuple[AddressFamily, str]) -> None:
    assert opened(cgroup, peer)[:2] == SYSTEM
    with arming(cgroup, ENABLE):
        assert opened(cgroup, peer)[:2] == [ARMED, ARMED]
    assert opened(cgroup, peer)[:2] == SYSTEM


def test_what_a_program_sets_afterwards_is_its_own(cgroup: Path) -> None:
    with arming(cgroup, ENABLE):
        assert opened(cgroup)[2] == "True 900 20 31"


CASES = """
import json, os, sys
from socket import *
with open(f"{sys.argv[1]}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
def set_sysctls(values):
    for name, value in zip(("time", "intvl", "probes"), values):
        with open(f"/proc/sys/net/ipv4/tcp_keepalive_{name}", "w") as setting:
            setting.write(str(value))
for system, chosen, on, later, user_timeout in json.load(sys.stdin):
    set_sysctls(system)
    with create_server(("127.0.0.1", 0)) as listener, socket() as near:
        for option, value in enumerate(chosen, TCP_KEEPIDLE):
            if value:
                near.setsockopt(IPPROTO_TCP, option, value)
        near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, on)
        near.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout)
        near.connect(listener.getsockname())
        set_sysctls(later)
        print(bool(near.getsockopt(SOL_SOCKET, SO_KEEPALIVE)),
              *(near.getsockopt(IPPROTO_TCP, option) for option in (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)))
"""


def outcomes(cgroup: Path, cases: Sequence[Case]) -> list[str]:
    """What programs tell of their sockets after they have connected."""
    with Namespace() as host:
        done = host.run(*DIE_WITH_US, sys.executable, "-c", CASES, str(cgroup), given=json.dumps(cases))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_what_is_set_is_the_sockets_own_also_where_it_equals_the_sysctl(cgroup: Path) -> None:
    """Else it would follow when the daemon stops and restores the sysctls."""
    with arming(cgroup, ENABLE):
        assert outcomes(cgroup, [Case(system=(180, 20, 31))]) == [ARMED]
        assert outcomes(cgroup, [Case(system=(180, 20, 31), on=True)]) == ["True 7200 75 9"], "that one was safe"


def test_the_program_in_the_kernel_decides_as_policy_does(cgroup: Path) -> None:
    """By the table that tests/policy holds policy.socket_settings to."""
    for rule in {line.rule for line in TABLE}:
        lines = [line for line in TABLE if line.rule == rule]
        with arming(cgroup, rule.rule, paths=[rule.path]):
            found = outcomes(cgroup, [line.case for line in lines])
        assert {line.why: told for line, told in zip(lines, found, strict=True)} == {
            line.why: tell(line.connected) for line in lines
        }


def test_what_is_set_is_what_the_scan_would_set_or_nothing(cgroup: Path) -> None:
    """Whatever its program has chosen, and whatever the sysctls say."""
    chance = random.Random(11)
    systems = [SHIPPED, SHIPPED, (180, 20, 31), (180, 20, 9), (60, 5, 3), (0, 0, 0), (-1, -1, 200), (32767, 75, 255)]
    some = [0, 0, 0, 1, 5, 9, 20, 31, 60, 127, 180, 200, 900, 7200, 32767]
    cases = []
    for _ in range(300):
        system = chance.choice(systems)
        chosen = (chance.choice(some), chance.choice(some), min(127, chance.choice(some)))
        cases.append(Case(system, chosen, chance.random() < 0.5, system))
    armed = 0
    for rule in (OURS, AUTO, SHORT, MANY):
        with arming(cgroup, rule.rule, paths=[rule.path]):
            found = outcomes(cgroup, cases)
        for case, told in zip(cases, found, strict=True):
            want = tell(by_scan(case, rule))
            assert told in (want, tell(case.stands)), (case, rule)
            armed += told == want != tell(case.stands)
            if case.chosen == (0, 0, 0) and min(case.system) > 0:
                assert told == want, "of what is the system's all is certain"
    assert armed > 300


def test_a_socket_with_a_user_timeout_is_left_to_the_scan(cgroup: Path) -> None:
    with arming(cgroup, ENABLE):
        near, far, _ = opened(cgroup, before="near.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 900000)")
    assert (near, far) == (SYSTEM[0], ARMED)


def test_only_connections_at_risk_are_armed(cgroup: Path) -> None:
    """Not those on a path that never forgets, nor a program's own times that are safe."""
    with arming(cgroup, ENABLE):
        assert outcomes(cgroup, [Case(chosen=(200, 15, 10), on=True)]) == ["True 200 15 10"]
    with arming(cgroup, ENABLE, paths=[DEFAULT, NetworkPath("lasting", FOREVER, CONFIGURED, networks=(LOOPBACK,))]):
        assert opened(cgroup)[:2] == SYSTEM
        assert opened(cgroup, V6)[:2] == [ARMED, ARMED]


def test_times_that_are_too_long_for_the_path_are_not_set(cgroup: Path) -> None:
    """It would not be safe, and must not be called armed."""
    with arming(cgroup, ENABLE, paths=[NetworkPath("default", 90.0, CONFIGURED)]):
        assert opened(cgroup)[:2] == SYSTEM


def test_auto_fits_the_path_that_the_connection_takes(cgroup: Path) -> None:
    """As the scan would: and not the shortest path of all."""
    auto = ArmRule("auto", ArmAction.ENABLE, None, 20, 31)
    short = NetworkPath("short", 9.0, CONFIGURED, networks=(TEN,))
    local = NetworkPath("local", 600.0, CONFIGURED, networks=(LOOPBACK,))
    ported = NetworkPath("ported", 300.0, CONFIGURED, networks=(LOOPBACK,), ports=(4242,))
    with arming(cgroup, auto, paths=[DEFAULT, short, local, ported]):
        assert opened(cgroup)[0] == tell(SocketKeepalive(True, times(auto, 600.0)))
        assert opened(cgroup, port=4242)[0] == tell(SocketKeepalive(True, times(auto, 300.0)))
        assert opened(cgroup, V6)[0] == tell(SocketKeepalive(True, times(auto, 240.0)))
    with arming(cgroup, auto, paths=[DEFAULT, NetworkPath("lan", 60.0, CONFIGURED, interface="eth7")]):
        assert opened(cgroup)[:2] == SYSTEM, "it may take that path"


def test_a_rule_for_a_path_is_followed(cgroup: Path) -> None:
    local = NetworkPath("local", 600.0, CONFIGURED, networks=(LOOPBACK,))
    rule = ArmRule("local", ArmAction.ENABLE, 180, 20, 31, paths=("loc*",))
    with arming(cgroup, rule, LEAVE, paths=[DEFAULT, local]):
        assert opened(cgroup)[:2] == [ARMED, ARMED]
        assert opened(cgroup, V6)[:2] == SYSTEM


def test_as_many_rules_and_paths_as_there_is_room_for_are_followed_to_the_last(cgroup: Path) -> None:
    networks = tuple(ipaddress.ip_network(f"10.{number}.0.0/16") for number in range(MOST_OPENINGS - 2))
    unit = ArmRule("unit", ArmAction.ENABLE, 60, 5, 31, networks=networks, units=("a.service",))
    far = NetworkPath("far", 60.0, CONFIGURED, networks=networks)
    with arming(cgroup, unit, ENABLE, paths=[DEFAULT, far]):
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
    with arming(cgroup, dataclasses.replace(ENABLE, networks=(LOOPBACK,)), LEAVE):
        assert opened(cgroup, V6, before=MAPPED)[:2] == [ARMED, ARMED]


@pytest.mark.parametrize("itself", [(AF_INET, "10.98.9.1"), (AF_INET6, "2001:db8:98::1")])
def test_a_connection_from_an_address_to_itself_is_ignored_as_one_to_loopback_is(
    cgroup: Path, itself: tuple[AddressFamily, str]
) -> None:
    """As policy.paths.ignored has it."""
    with arming(cgroup, ENABLE):
        assert opened(cgroup, itself)[:2] == [ARMED, ARMED]
    with arming(cgroup, ENABLE, ignore=(LOOPBACK, LOOPBACK_IPV6)):
        assert opened(cgroup, itself)[:2] == [UNTOUCHED, UNTOUCHED]


def test_the_first_rule_that_matches_counts(cgroup: Path) -> None:
    def to(network: str | None, port: int = 0, action: ArmAction = ArmAction.ENABLE) -> ArmRule:
        networks = (ipaddress.ip_network(network),) if network else ()
        return dataclasses.replace(ENABLE, action=action, networks=networks, ports=(port,) if port else ())

    for rules, outcome in (
        ([to("10.0.0.0/8")], UNTOUCHED),
        ([to("127.0.0.0/8")], ARMED),
        ([to("127.0.0.0/8", action=ArmAction.OBSERVE), ENABLE], UNTOUCHED),
        ([to("10.0.0.0/8", action=ArmAction.OBSERVE), ENABLE], ARMED),
        ([to("::/1", 4242)], ARMED),
        ([to(None, 4243)], UNTOUCHED),
        ([to("::1/128")], UNTOUCHED),
    ):
        with arming(cgroup, *rules):
            assert opened(cgroup, port=4242)[:2] == [outcome, outcome], rules


def test_a_rule_for_a_unit_or_container_concerns_sockets_of_its_cgroups(cgroup: Path) -> None:
    """And others are tried where it does not; of a cgroup that is not known, nobody can tell."""
    backup = dataclasses.replace(ENABLE, units=("backup@*",))
    left = dataclasses.replace(LEAVE, containers=("c1",))
    owners: dict[int, Cgroup] = {}
    with arming(cgroup, backup, left, MILD, owners=owners) as armer:
        for owner, outcome in (
            (None, UNTOUCHED),
            (Cgroup("", "backup@home.service"), ARMED),
            (Cgroup("", "ssh.service"), "True 200 50 15"),
            (Cgroup("", container="c1"), UNTOUCHED),
            (Cgroup("", "backup@c1.service", "c1"), ARMED),
        ):
            owners.clear()
            armer.refresh()
            if owner:
                owners[cgroup.stat().st_ino] = owner
                armer.refresh()
            assert opened(cgroup)[:2] == [outcome, outcome], owner


def test_what_is_below_a_unit_is_of_that_unit_and_below_a_slice_nobody_knows(cgroup: Path) -> None:
    """Anybody may make any number of cgroups below his own: the program goes up instead of knowing each."""
    backup = dataclasses.replace(ENABLE, units=("backup@*",))
    here = cgroup.stat().st_ino
    below = cgroup
    for _ in range(5):
        below /= "below"
        below.mkdir()
    try:
        for owner, outcomes in (
            (Cgroup("", "backup@home.service", whole=True), [ARMED, ARMED]),
            (Cgroup("", "ssh.service", whole=True), ["True 200 50 15"] * 2),
            (Cgroup(""), SYSTEM),
        ):
            with arming(cgroup, backup, MILD, owners={here: owner}):
                assert opened(below)[:2] == outcomes, owner
    finally:
        while below != cgroup:
            below.rmdir()
            below = below.parent


def test_others_programs_in_the_same_cgroup_go_on(cgroup: Path) -> None:
    """Cilium, say: here it is another one of ours, with other values."""
    with arming(cgroup, MILD), arming(cgroup, ENABLE):
        assert opened(cgroup)[0] == "True 200 50 15", "what the first has made safe needs nothing of the second"


def test_it_ends_with_its_process_however_that_ends(cgroup: Path) -> None:
    """Nothing is pinned."""
    script = (
        "import sys; from pathlib import Path; from tests.kernel.test_connect import ENABLE, arming;"
        "held = arming(Path(sys.argv[1]), ENABLE); held.__enter__(); print(flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([*DIE_WITH_US, sys.executable, "-c", script, str(cgroup)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        assert opened(cgroup)[0] == ARMED
        holder.kill()
    assert opened(cgroup)[0] == UNTOUCHED


def test_signals_do_not_keep_a_program_from_being_loaded(cgroup: Path) -> None:
    """The kernel gives up verifying with EAGAIN where a signal has arrived, as SIGHUP again and again."""
    script = (
        "import signal, sys; from pathlib import Path; from tests.kernel.test_connect import ENABLE, arming;"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4);"
        "held = arming(Path(sys.argv[1]), ENABLE); held.__enter__(); signal.setitimer(signal.ITIMER_REAL, 0);"
        "held.__exit__(None, None, None)"
    )
    subprocess.run([*DIE_WITH_US, sys.executable, "-c", script, str(cgroup)], check=True, timeout=SOON)


@pytest.fixture
def pins() -> Iterator[Pins]:
    """A BPF file system of its own."""
    directory = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "bpf", "bpf", str(directory)], check=True)
    try:
        pins = Pins(directory / "ours")
        yield pins
    finally:
        pins.release()
        subprocess.run(["umount", str(directory)], check=True)
        os.rmdir(directory)


def test_where_it_cannot_be_pinned_it_is_at_work_nevertheless_and_says_why(cgroup: Path, tmp_path: Path) -> None:
    """On another file system, and where no directory can be made."""
    for directory in (tmp_path / "ours", Path("/proc/tcp-keepalived")):
        with arming(cgroup, ENABLE, pins=Pins(directory), survive=True) as held:
            assert all(why.startswith(f"{directory}/connect: ") for why in held.unpinned)
            assert opened(cgroup)[0] == ARMED
        assert opened(cgroup)[0] == UNTOUCHED


def test_a_new_program_takes_the_pin_of_the_one_before(cgroup: Path, pins: Pins) -> None:
    """As after a restart."""
    with arming(cgroup, ENABLE, pins=pins, survive=True):
        pass
    with arming(cgroup, dataclasses.replace(ENABLE, idle=150), pins=pins, survive=True) as again:
        assert again.unpinned == ("", "")
    end = time.monotonic() + SOON
    while (found := opened(cgroup)[0]) == ARMED:  # the kernel lets go of the one before a little later
        assert time.monotonic() < end
    assert found == "True 150 20 31"
    pins.program.unlink()
    while opened(cgroup)[0] != UNTOUCHED:
        assert time.monotonic() < end


def test_a_program_that_cannot_take_its_place_is_not_left_beside_it(
    cgroup: Path, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with arming(cgroup, ENABLE, pins=pins, survive=True) as held:
        assert held.unpinned.program.startswith(f"{pins.program}: Input/output error")
        assert opened(cgroup)[0] == ARMED
    assert opened(cgroup)[0] == UNTOUCHED


def test_the_records_are_pinned_before_the_first_connection_is_armed(
    cgroup: Path, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is armed before a kill -9 could be disarmed by nobody."""
    were_pinned = []
    attach = libbpf.Object.attach_cgroup

    def attach_and_look(programs: libbpf.Object, name: str, where: Path) -> int:
        were_pinned.append(pins.records.exists())
        return attach(programs, name, where)

    monkeypatch.setattr(libbpf.Object, "attach_cgroup", attach_and_look)
    with arming(cgroup, ENABLE, pins=pins):
        assert were_pinned == [True]


def test_records_of_a_program_that_could_not_be_attached_are_not_left(
    cgroup: Path, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise Unsupported("no")

    monkeypatch.setattr(libbpf.Object, "attach_cgroup", fail)
    with pytest.raises(Unsupported), arming(cgroup, ENABLE, pins=pins):
        pass
    assert not pins.records.exists()


def test_a_second_daemon_does_not_take_the_pin_of_the_first(cgroup: Path, pins: Pins) -> None:
    second = Pins(pins.program.parent)
    with arming(cgroup, ENABLE, pins=pins, survive=True):
        for survive in (True, False):
            with arming(cgroup, MILD, pins=second, survive=survive) as other:
                assert other.unpinned.records == f"{pins.program}: in use by another tcp-keepalived"
        assert second.claimed_by_another()
    assert opened(cgroup)[0] == ARMED
    pins.release()
    assert not second.claimed_by_another()


def test_what_stood_before_is_kept_as_long_as_the_socket_lives(cgroup: Path) -> None:
    """In every network namespace, from the first moment on, and of what was armed alone."""
    with arming(cgroup, ENABLE) as armer, Namespace() as host:
        assert opened(cgroup, before="near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 60)")[0] == "False 60 75 9"
        with host.running(sys.executable, "-c", HOLD, str(cgroup)) as process:
            held = Held(process)
            assert held.tell() == ARMED
            kept = recall.read(armer.records)
            assert list(kept.values()) == [BEFORE_AND_AFTER] * 2
            assert [counted.sockets for counted in armer.refresh()] == [3]
            recall.forget(armer.records)
            assert dict(recall.read(armer.records)) == {}, "it is kept elsewhere"
        assert armer.refresh() == []


def test_a_program_that_bears_no_other_is_the_reason_that_is_given(cgroup: Path) -> None:
    """Somebody else's sock_ops program, attached without BPF_F_ALLOW_MULTI."""
    with alone(cgroup), pytest.raises(Unsupported, match="attached there and allows no other one of its type"):
        ConnectArmer(cgroup, plan([ENABLE], (), [DEFAULT]), cgroups=Told(NONE))


BEFORE_AND_AFTER = Armed(
    SocketKeepalive(False, Keepalive(*SHIPPED)), SocketKeepalive(True, Keepalive(180, 20, 31)), ALL
)
MINE = f"{OWN_NETWORK}.4"
PIN = "/sys/fs/bpf/tcp-keepalived/connect"


def test_the_capabilities_that_are_missing_are_named(cgroup: Path) -> None:
    """To attach to a cgroup requires CAP_NET_ADMIN, too; CAP_SYS_ADMIN would do for all."""
    script = (
        "import sys; from pathlib import Path; from tests.kernel.test_connect import *;"
        "ConnectArmer(Path(sys.argv[1]), plan([ENABLE], (), [DEFAULT]), cgroups=Told(NONE))"
    )
    without = ("setpriv", "--bounding-set=-net_admin,-sys_admin")
    command = [*DIE_WITH_US, *without, sys.executable, "-c", script, str(cgroup)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "NotPermitted: BPF is not permitted: requires CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" in done.stderr


RULES = """
    [keepalive]
    apply = false
    survive_stop = {survive}
    [watch]
    interval = "250ms"
    warn_before = "1s"
    ignore = []
    default_timeout = "infinity"
    [[path]]
    name = "mine"
    networks = ["MINE/32"]
    timeout = "4min"
    [[arm]]
    networks = ["MINE/32"]
    action = "enable"
    idle = "180s"
""".replace("MINE", MINE)

DISARMING = RULES.format(survive="false").replace("[watch]", "disarm_on_stop = true\n    [watch]")


HOLD = """
import os, sys
from socket import *
with open(f"{sys.argv[1]}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
listener = create_server(("MINE", 0))
near = create_connection(listener.getsockname(), source_address=("MINE", 0))
far = listener.accept()[0]
for line in sys.stdin:
    exec(line)
    print(bool(near.getsockopt(SOL_SOCKET, SO_KEEPALIVE)),
          *(near.getsockopt(IPPROTO_TCP, o) for o in (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)), flush=True)
""".replace("MINE", MINE)


class Held:
    """A program that holds a connection."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, first: str = "pass") -> str:
        """The settings of its near end, once it has done this."""
        assert self._process.stdin
        assert self._process.stdout
        print(first, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def becomes(self, settings: str) -> None:
        """Wait for these."""
        deadline = time.monotonic() + SOON
        while (stands := self.tell()) != settings:
            assert time.monotonic() < deadline, stands


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
        done = subprocess.run(self.command(*command), capture_output=True, text=True, timeout=120, check=False)
        said = [line for line in done.stderr.splitlines() if "may not be watched" not in line]  # as a supervisor's
        assert (done.returncode, said) == (0, []), done.stderr
        return done.stdout

    def opened(self, unit: str = "") -> list[str]:
        """What both ends tell of a new connection, before anything else can have happened to it."""
        return self.run(
            sys.executable, "-c", PROGRAM, str(self.cgroups / unit), str(int(AF_INET)), MINE, "0", ""
        ).splitlines()[:2]

    @contextlib.contextmanager
    def holding(self, unit: str = "") -> Iterator[Held]:
        """A program with both ends of a connection."""
        command = self.command(sys.executable, "-c", HOLD, str(self.cgroups / unit))
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield Held(process)
            finally:
                process.kill()

    def disarm(self) -> list[str]:
        """What keepalivectl says."""
        done = self.typed("disarm")
        assert done.returncode == 0, done.stderr
        return [*done.stderr.splitlines(), *done.stdout.splitlines()]

    def typed(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What comes of a command of keepalivectl."""
        command = self.command(*CTL, *words, f"--state-dir={self.home.state}")
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    @contextlib.contextmanager
    def daemon(self, *options: str, event: str = "started", through: Sequence[str] = ()) -> Iterator[Daemon]:
        with subprocess.Popen(
            self.command(*through, *self.home.command, *options),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            daemon = Daemon(process, self.home)
            try:
                daemon.expect(event)
                yield daemon
            finally:
                daemon.kill()


@pytest.fixture
def guest(cgroup: Path, tmp_path: Path) -> Iterator[Guest]:
    with contextlib.closing(Guest(cgroup, Home(tmp_path / "home", RULES.format(survive="false")))) as guest:
        yield guest


def test_under_a_daemon_no_new_connection_is_ever_unprotected_and_its_end_leaves_nothing(guest: Guest) -> None:
    """Once it is killed its records stay, for whoever disarms."""
    assert guest.opened() == SYSTEM
    pins = guest.run("find", "/sys/fs/bpf")
    with guest.daemon() as daemon:
        assert "new connections are armed at connect" in daemon.expect("started")["MESSAGE"]
        assert guest.opened() == [ARMED, ARMED]
        daemon.stop()
    assert guest.opened() == SYSTEM
    assert guest.run("find", "/sys/fs/bpf") == pins
    with guest.daemon() as daemon:
        daemon.kill()
    assert guest.opened() == SYSTEM
    (said,) = guest.disarm()
    assert said.startswith("nothing to disarm")
    assert guest.run("find", "/sys/fs/bpf") == pins


def test_a_daemon_with_cap_sys_admin_in_place_of_cap_bpf_uses_it_for_bpf_alone(guest: Guest) -> None:
    """As on a kernel older than CAP_BPF. What is shown between two scans is what a thread has all the time."""
    with guest.daemon(through=("setpriv", "--bounding-set=-bpf,-perfmon")) as daemon:
        assert guest.opened() == [ARMED, ARMED]
        status = Path(f"/proc/{daemon.pid}/status")
        deadline = time.monotonic() + SOON
        while effective(status) >> SYS_ADMIN & 1:
            assert time.monotonic() < deadline
        daemon.stop()
    assert guest.opened() == SYSTEM


def effective(status: Path) -> int:
    """Its effective capabilities, a bit each."""
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


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
    assert guest.disarm() == [f"removed {PIN}; new connections are no longer armed"]
    assert guest.opened() == SYSTEM
    assert guest.run(*CTL, "engine").splitlines()[-1] == "pinned: nothing"


@pytest.mark.parametrize("by", ["disarm", "undo", "the next daemon"])
def test_a_program_whose_daemon_was_killed_before_it_had_its_place_is_found_and_removed(guest: Guest, by: str) -> None:
    """It is pinned under another name first; that of the daemon before may be in its place."""
    guest.home.configure(RULES.format(survive="true"))
    with guest.daemon() as daemon:
        daemon.kill()
    guest.run("mv", PIN, f"{PIN}_new")
    with guest.holding() as held:
        assert held.tell() == ARMED
        assert f"{PIN}_new arms new connections" in guest.run(*CTL, "engine")
        if by == "the next daemon":
            guest.home.configure(RULES.format(survive="false"))
            with guest.daemon() as daemon:
                daemon.stop()
            assert guest.opened() == SYSTEM
            guest.disarm()
        elif by == "undo":
            assert guest.typed("undo", "all").returncode == 0
        else:
            assert f"removed {PIN}_new; new connections are no longer armed" in guest.disarm()
        assert held.tell() == UNTOUCHED
    assert guest.opened() == SYSTEM


SWITCHED_OFF = "near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 0)"


def test_what_a_program_sets_after_connecting_is_left_by_the_next_scan(guest: Guest) -> None:
    with guest.daemon() as daemon, guest.holding() as off, guest.holding() as longer:
        assert (off.tell(), longer.tell()) == (ARMED, ARMED)
        assert off.tell(SWITCHED_OFF) == "False 180 20 31"
        assert longer.tell("near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900)") == "True 900 20 31"
        for _ in range(2):
            daemon.expect("unarmed", KEEPALIVE_RESULT="changed-since")
        with guest.holding() as other:
            daemon.expect("armed", KEEPALIVE_RESULT="armed-at-connect")
            assert other.tell() == ARMED
        assert (off.tell(), longer.tell()) == ("False 180 20 31", "True 900 20 31")


def test_what_was_armed_at_connect_is_counted_by_unit_and_rule(guest: Guest) -> None:
    unit = guest.outside / "backup.service"
    unit.mkdir()
    try:
        with guest.daemon() as daemon:
            guest.opened("backup.service")

            def counted() -> int:
                entries = daemon.heard("armed", KEEPALIVE_UNIT="backup.service", KEEPALIVE_RULE="arm[1]")
                return sum(entry.get("KEEPALIVE_COUNT", 1) for entry in entries)

            wait_for(lambda: counted() == 2)  # both ends at once, unless they were counted in between
            assert counted() == 2
    finally:
        unit.rmdir()


def test_sockets_armed_at_connect_are_disarmed_by_hand_beside_the_daemon(guest: Guest) -> None:
    """Which arms new ones on, and says so."""
    with guest.daemon(), guest.holding() as held:
        assert held.tell() == ARMED
        said = guest.disarm()
        assert said[0].startswith("note: tcp-keepalived is running: it does not arm these")
        assert any("disarmed" in line for line in said[1:])
        assert held.tell() == UNTOUCHED
        assert guest.opened() == [ARMED, ARMED]
        assert held.tell() == UNTOUCHED


@pytest.fixture
def unpinned(guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Guest:
    """A host without a BPF file system, as in a container: only the daemon knows what it has armed at connect."""
    guest.run("umount", "--all", "--types", "bpf")  # also one of this machine, which the guest's hides
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))  # where it is asked
    return guest


@pytest.mark.parametrize("words", [("disarm",), ("undo", "all"), ("undo", MINE)])
def test_without_a_bpf_file_system_too_what_a_daemon_armed_at_connect_is_disarmed(
    unpinned: Guest, words: tuple[str, ...]
) -> None:
    with unpinned.daemon(), unpinned.holding() as held:
        assert held.tell() == ARMED
        end = held.tell("print(*near.getsockname(), sep=':', end=' ')").split()[0]
        said = unpinned.typed(*(end if word == MINE else word for word in words))
        assert said.returncode == 0, said.stderr
        assert ": disarmed: off" in said.stdout
        assert held.tell() == UNTOUCHED
        with unpinned.holding() as later:
            assert later.tell() == ARMED


def test_without_a_bpf_file_system_too_a_scan_knows_who_switched_keepalive_on(unpinned: Guest) -> None:
    with unpinned.daemon(), unpinned.holding() as held:
        end = held.tell("print(*near.getsockname(), sep=':', end=' ')").split()[0]
        for words in ((), (f"--config={unpinned.home.file}",), ("--fix", "--yes")):
            said = unpinned.typed("why", end, *words)
            assert said.returncode == 0, said.stderr
            assert "on, armed by keepaliveD: idle 3min" in said.stdout
            assert "its program" not in said.stdout


def test_what_a_daemon_that_cannot_be_asked_has_armed_at_connect_is_not_denied(
    unpinned: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with unpinned.daemon() as daemon, unpinned.holding() as held:
        assert held.tell() == ARMED
        end = held.tell("print(*near.getsockname(), sep=':', end=' ')").split()[0]
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "elsewhere"))
        for words in (("disarm",), ("undo", "all"), ("undo", end)):
            said = unpinned.typed(*words)
            assert (said.returncode, "nothing to" in said.stdout) == (75, False)
            assert "what tcp-keepalived has armed at connect may be armed still" in said.stderr
            assert f"process {daemon.pid} runs, but cannot be asked" in said.stderr
        assert "may be the daemon's" in unpinned.typed("why", end, f"--config={unpinned.home.file}").stderr
        daemon.stop()
        assert any(": disarmed: off" in line for line in unpinned.disarm())
        assert held.tell() == UNTOUCHED


@pytest.mark.parametrize("survive", ["false", "true"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_sockets_armed_at_connect_are_disarmed_when_their_daemon_is_gone(guest: Guest, survive: str, end: str) -> None:
    """However it ended, and whether or not its program went on."""
    guest.home.configure(RULES.format(survive=survive))
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        getattr(daemon, end)()
        assert held.tell() == ARMED
        with guest.holding() as later:
            assert later.tell() == (ARMED if survive == "true" else UNTOUCHED)
            assert "disarmed" in "".join(said := guest.disarm()), said
            assert (held.tell(), later.tell()) == (UNTOUCHED, UNTOUCHED)
    assert guest.opened() == SYSTEM


REMOVALS = [
    "rm /sys/fs/bpf/tcp-keepalived/armed",
    "rm -r /sys/fs/bpf/tcp-keepalived",
    "mount -t bpf bpf /sys/fs/bpf",
    "mount -t tmpfs -o ro none /sys/fs/bpf",
]


@pytest.mark.parametrize(
    ("removal", "survive", "end"),
    [
        *((removal, "true", "stop") for removal in REMOVALS),
        *((removal, survive, "kill") for removal, survive in zip(REMOVALS[:2], ("true", "false"), strict=True)),
    ],
)
def test_pins_that_somebody_removes_cost_no_record(guest: Guest, survive: str, end: str, removal: str) -> None:
    """The next scan pins again. Where nothing can be pinned, an orderly stop keeps what a kill would lose."""
    is_readonly = " ro " in removal
    guest.home.configure(RULES.format(survive=survive))
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        guest.run("sh", "-c", removal)
        said = daemon.expect("record")["MESSAGE"]
        assert said.startswith("the pins of what arms at connect were removed")
        assert said.endswith("; pinned it again") != is_readonly
        with guest.holding() as later:
            assert later.tell() == ARMED
            getattr(daemon, end)()
            assert (held.tell(), later.tell()) == (ARMED, ARMED)
            if survive == "true" and not is_readonly:
                assert guest.opened() == [ARMED, ARMED]
            guest.disarm()
            assert (held.tell(), later.tell()) == (UNTOUCHED, UNTOUCHED)
    assert guest.opened() == SYSTEM


@pytest.mark.parametrize("removal", REMOVALS)
def test_pins_that_somebody_removes_before_a_stop_cost_no_record(guest: Guest, removal: str) -> None:
    guest.home.configure(RULES.format(survive="true").replace('"250ms"', '"1min"').replace('"1s"', '"1min"'))
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        guest.run("sh", "-c", removal)
        daemon.stop()
        assert held.tell() == ARMED
        guest.disarm()
        assert held.tell() == UNTOUCHED


def test_a_daemon_whose_record_another_process_has_locked_goes_on_and_stops(guest: Guest) -> None:
    """As a keepalivectl that was stopped by Ctrl-Z: both must not hang, and both say who has it."""
    guest.home.configure(DISARMING)
    record = guest.home.state / "armed"
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        record.touch(mode=0o600)
        with subprocess.Popen(["flock", "--no-fork", record, "sleep", "1000"]) as holder:
            try:
                guest.run("sh", "-c", "rm /sys/fs/bpf/tcp-keepalived/armed")
                daemon.expect("record")  # a scan has ended
                daemon.send(signal.SIGTERM)
                began = time.monotonic()
                assert daemon.wait() == Exit.TEMPFAIL
                assert time.monotonic() - began < STALL
                said = guest.typed("disarm")
                assert (said.returncode, "has it locked" in said.stderr) == (Exit.TEMPFAIL, True)
            finally:
                holder.kill()
        refused = next(
            str(each["MESSAGE"]) for each in daemon.heard("refused") if "cannot disarm" in str(each["MESSAGE"])
        )
        assert refused.startswith("cannot disarm what was armed at connect, it stays armed: ")
        assert "(sleep) has it locked" in refused
        assert refused.endswith("; run keepalivectl disarm")
        assert held.tell() == ARMED
        guest.disarm()
        assert held.tell() == UNTOUCHED


def test_sockets_armed_at_connect_are_disarmed_at_the_stop_where_that_is_wanted(guest: Guest) -> None:
    guest.home.configure(DISARMING)
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        daemon.stop()
        assert held.tell() == UNTOUCHED
    with guest.daemon(), guest.holding() as held:
        assert held.tell() == ARMED, "and the next daemon arms anew"


def test_what_was_armed_stays_so_when_the_sysctls_are_restored(guest: Guest) -> None:
    """Also where it equalled them."""
    guest.home.configure(RULES.format(survive="true").replace("apply = false", "apply = true"))
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        daemon.stop()
        assert held.tell() == ARMED
    assert guest.opened() == [ARMED, ARMED], "nor do those that are opened later need the sysctls"


CANNOT_KEEP = {
    "netlink": ("[watch]", '[watch]\nengine = "netlink"'),
    "own": ("[watch]", '[watch]\nnamespaces = "own"'),
    "no rule": ("[[arm]]", '[[arm]]\nprocess = "nobody"'),
    "not to survive": ("survive_stop = true", "survive_stop = false"),
}


@pytest.mark.parametrize("change", CANNOT_KEEP)
@pytest.mark.parametrize("by", ["start", "reload"])
def test_a_pin_that_a_new_configuration_cannot_keep_is_ended(guest: Guest, change: str, by: str) -> None:
    surviving = RULES.format(survive="true")
    changed = surviving.replace(*CANNOT_KEEP[change])
    guest.home.configure(surviving)
    with guest.daemon() as daemon:
        if by == "reload":
            daemon.reload(changed)
            daemon.expect("reloaded")
            assert PIN not in guest.run("find", "/sys/fs/bpf")
        daemon.stop()
    if by == "start":
        assert guest.opened() == [ARMED, ARMED]
        guest.home.configure(changed)
        with guest.daemon() as daemon:
            daemon.stop()
    assert guest.opened() == SYSTEM


@pytest.mark.parametrize("change", CANNOT_KEEP)
def test_a_stop_after_such_a_reload_leaves_no_pin(guest: Guest, change: str) -> None:
    """Nor that of the records: what was armed before is in the arming record."""
    surviving = RULES.format(survive="true")
    guest.home.configure(surviving)
    pins = guest.run("find", "/sys/fs/bpf")
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        daemon.reload(surviving.replace(*CANNOT_KEEP[change]))
        daemon.expect("reloaded")
        daemon.stop()
        assert guest.run("find", "/sys/fs/bpf") == pins
        assert "disarmed" in "".join(guest.disarm())
        assert held.tell() == UNTOUCHED


@pytest.mark.parametrize("change", ["netlink", "no rule"])
def test_what_a_killed_daemon_armed_at_connect_is_disarmed_at_the_stop_of_one_that_does_not(
    guest: Guest, change: str
) -> None:
    pins = guest.run("find", "/sys/fs/bpf")
    with guest.daemon() as killed, guest.holding() as held:
        assert held.tell() == ARMED
        killed.kill()
        guest.home.configure(DISARMING.replace(*CANNOT_KEEP[change]))
        with guest.daemon() as daemon:
            daemon.stop()
        assert held.tell() == UNTOUCHED
        assert guest.run("find", "/sys/fs/bpf") == pins


WITHOUT_BPF = ("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin")


def test_without_the_capabilities_a_stop_that_disarms_fails_and_says_what_stays_armed(guest: Guest) -> None:
    with guest.daemon() as killed, guest.holding() as held:
        assert held.tell() == ARMED
        killed.kill()
        guest.home.configure(DISARMING.replace(*CANNOT_KEEP["netlink"]))
        with guest.daemon(through=WITHOUT_BPF, event="refused") as daemon:
            daemon.expect("started")
            daemon.send(signal.SIGTERM)
            assert daemon.wait() == 77
            first, last = (entry["MESSAGE"] for entry in daemon.heard("refused"))
        assert first.startswith("sockets armed at connect stay armed, and may be missing in the arming record: ")
        assert last.startswith("cannot disarm what was armed at connect, it stays armed: ")
        assert "requires CAP_BPF and CAP_PERFMON" in first
        assert "disarmed" in "".join(guest.disarm())
        assert held.tell() == UNTOUCHED


def test_without_the_capabilities_disarm_says_what_it_removes_and_what_stays_armed(guest: Guest) -> None:
    """And disarms what the arming record names: what was armed by a scan."""
    guest.home.configure(RULES.format(survive="true"))
    with guest.holding() as earlier, guest.daemon() as daemon, guest.holding() as held:
        earlier.becomes(ARMED)
        assert held.tell() == ARMED
        daemon.kill()
        command = guest.command(*WITHOUT_BPF, *CTL, "disarm", f"--state-dir={guest.home.state}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 77
        assert done.stdout.startswith(f"removed {PIN}; new connections are no longer armed\n")
        last = done.stderr.splitlines()[-1]
        assert last.startswith("keepalivectl: sockets that were armed at connect may stay armed: ")
        assert "requires CAP_BPF and CAP_PERFMON" in last
        assert (earlier.tell(), held.tell()) == (UNTOUCHED, ARMED)
        assert "disarmed" in "".join(guest.disarm())
        assert held.tell() == UNTOUCHED


def test_a_pin_that_cannot_be_removed_is_an_error_that_says_how_to_end_it(guest: Guest) -> None:
    """On a read-only BPF file system."""
    guest.home.configure(RULES.format(survive="true"))
    with guest.daemon() as daemon:
        daemon.stop()
    guest.run("mount", "-o", "remount,bind,ro", "/sys/fs/bpf")
    guest.home.configure(RULES.format(survive="true").replace(*CANNOT_KEEP["netlink"]))
    with guest.daemon() as daemon:
        said = daemon.expect("refused")["MESSAGE"]
        assert said.startswith(f"{PIN}: cannot be removed, and still arms new connections: Read-only file system; ")
        assert said.endswith(f"rm {PIN}")
        daemon.stop()
    assert guest.opened() == [ARMED, ARMED]


@pytest.mark.parametrize("words", [("disarm",), ("undo", "all")])
def test_where_nothing_can_be_unpinned_what_is_on_record_is_disarmed_nevertheless(
    guest: Guest, words: tuple[str, ...]
) -> None:
    """What was armed by a scan; the records of what was armed at connect are read once they can be."""
    guest.home.configure(RULES.format(survive="true"))
    with guest.holding() as earlier, guest.daemon() as daemon, guest.holding() as held:
        earlier.becomes(ARMED)
        assert held.tell() == ARMED
        daemon.kill()
        guest.run("mount", "-o", "remount,ro", "/sys/fs/bpf")
        done = guest.typed(*words)
        *_, records, pin = done.stderr.splitlines()
        assert pin.startswith(f"keepalivectl: {PIN}: cannot be removed, and still arms new connections: Read-only file")
        assert pin.endswith(f"run as root, where /sys/fs/bpf is not mounted read-only: rm {PIN}")
        assert records.startswith("warning: sockets that were armed at connect may stay armed: ")
        assert records.endswith("/armed: cannot be read: Read-only file system")
        assert (done.returncode, earlier.tell(), held.tell()) == (77, UNTOUCHED, ARMED)
        guest.run("mount", "-o", "remount,rw", "/sys/fs/bpf")
        assert guest.typed(*words).returncode == 0
        assert held.tell() == UNTOUCHED
    assert guest.opened() == SYSTEM


@pytest.mark.parametrize("words", [("disarm",), ("undo", "all")])
def test_what_is_armed_is_disarmed_though_nobody_reads_what_is_said(guest: Guest, words: tuple[str, ...]) -> None:
    guest.home.configure(RULES.format(survive="true"))
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        daemon.kill()
        piped = '{ "$@"; echo "status $?" >&2; } | true'
        done = subprocess.run(
            guest.command("sh", "-c", piped, "sh", *CTL, *words, f"--state-dir={guest.home.state}"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stderr.splitlines()[-1] == "status 0"
        assert held.tell() == UNTOUCHED
    assert guest.opened() == SYSTEM


LOST = "if the daemon is killed, keepalivectl disarm cannot restore them"


@pytest.mark.parametrize(
    ("before", "is_lost"),
    [(("mount", "-o", "remount,ro", "/sys/fs/bpf"), True), (("mkdir", "-p", PIN), False)],
    ids=["read-only", "a directory in place of the pin"],
)
def test_a_daemon_whose_program_cannot_survive_says_whether_its_records_would(
    guest: Guest, before: Sequence[str], *, is_lost: bool
) -> None:
    guest.home.configure(RULES.format(survive="true"))
    guest.run(*before)
    with guest.daemon() as daemon, guest.holding() as held:
        said = daemon.expect("started")["MESSAGE"]
        assert f"but not after the daemon stops (keepalive.survive_stop: {PIN}: " in said
        assert (LOST in said) is is_lost
        assert held.tell() == ARMED
        daemon.kill()
        done = guest.typed("disarm")
        assert (done.returncode, held.tell()) == (0, ARMED if is_lost else UNTOUCHED)


@pytest.mark.parametrize("words", [("disarm",), ("undo", "all")])
def test_a_directory_in_place_of_a_pin_is_none(guest: Guest, words: tuple[str, ...]) -> None:
    """It arms nothing, and records nothing: somebody has made it."""
    guest.run("mkdir", "-p", PIN, str(Path(PIN).with_name("armed")))
    guest.home.configure(RULES.format(survive="true"))
    with guest.holding() as earlier, guest.daemon() as daemon:
        earlier.becomes(ARMED)
        daemon.kill()
        assert guest.run(*CTL, "engine").splitlines()[-1] == "pinned: nothing"
        done = guest.typed(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert earlier.tell() == UNTOUCHED


def test_records_whose_daemon_was_killed_before_they_had_their_place_are_removed(guest: Guest) -> None:
    with guest.daemon() as daemon:
        daemon.kill()
    guest.run("mv", str(Path(PIN).with_name("armed")), str(Path(PIN).with_name("armed_new")))
    guest.disarm()
    assert "tcp-keepalived" not in guest.run("find", "/sys/fs/bpf")


def test_a_second_daemon_leaves_pin_and_records_of_the_first_alone(guest: Guest, tmp_path: Path) -> None:
    """One with another state directory."""
    guest.home.configure(RULES.format(survive="true"))
    first = guest.home
    with guest.daemon() as daemon, guest.holding() as held:
        assert held.tell() == ARMED
        guest.home = Home(tmp_path / "second", RULES.format(survive="true"))
        with guest.daemon() as second:
            said = second.expect("started")["MESSAGE"]
            assert f"(keepalive.survive_stop: {PIN}: in use by another tcp-keepalived)" in said
            second.stop()
        guest.home = first
        daemon.stop()
        assert guest.opened() == [ARMED, ARMED]
        assert "disarmed" in "".join(guest.disarm())
        assert held.tell() == UNTOUCHED


@pytest.mark.parametrize("option", ["--once", "--dry-run"])
def test_a_single_scan_and_a_dry_run_pin_nothing_and_leave_what_is_pinned(guest: Guest, option: str) -> None:
    guest.home.configure(RULES.format(survive="true"))
    pins = guest.run("find", "/sys/fs/bpf")
    with guest.daemon(option):
        pass
    assert (guest.run("find", "/sys/fs/bpf"), guest.opened()) == (pins, SYSTEM)
    with guest.daemon() as daemon:
        daemon.stop()
    guest.home.configure(RULES.format(survive="false"))
    with guest.daemon(option):
        pass
    assert guest.opened() == [ARMED, ARMED]


def test_whoever_may_not_look_is_not_told_that_nothing_is_pinned(guest: Guest) -> None:
    guest.home.configure(RULES.format(survive="true"))
    with guest.daemon() as daemon:
        daemon.stop()
    guest.run("chmod", "000", "/sys/fs/bpf")
    told = guest.run("setpriv", "--bounding-set=-all", "--inh-caps=-all", *CTL, "engine")  # by whom a clone can be read
    assert told.splitlines()[-1].startswith("pinned: unknown: ")
