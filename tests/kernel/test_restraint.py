"""What arming leaves alone: settings that a program chose, and every socket that is none of its business."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import (
    AF_INET,
    IPPROTO_TCP,
    SHUT_WR,
    SO_KEEPALIVE,
    SOCK_DGRAM,
    SOL_SOCKET,
    TCP_INFO,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    socket,
    socketpair,
)

import pytest

from keepaliveD.cli.asking.asking import ask, every
from keepaliveD.model.sockets import TcpState
from keepaliveD.platforms.linux.arming.pidfd import SO_COOKIE
from tests.kernel.test_rescue import BY_EACH, UNDER
from tests.support.loopback import (
    A_FEW_SCANS,
    BARE,
    FORGOTTEN,
    LASTING,
    SAFE,
    Host,
    Settings,
    forgetful,
    near_end,
    settings,
)
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL, ENABLE, OBSERVE, REARM, TUNED
from tests.support.rig import INTERVAL, PROBES, TIME

SYN_SENT, LISTEN = 2, 10  # include/net/tcp_states.h
OWN = 150  # seconds
WITH_ONLY = {"netlink": ("setpriv", "--bounding-set=-bpf,-sys_admin"), "bpf": UNDER["bpf"]}  # what an engine requires
BRIEF = 12  # seconds: a timeout of which half, when the warning is due, is soon over, and the rest lasts


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Whose connections are forgotten."""
    with Host(tmp_path) as host:
        yield host


def on(sock: socket, idle: int = 0) -> socket:
    """The same with keepalive, of its own idle time if any."""
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    return with_own(sock, idle) if idle else sock


def with_own(sock: socket, idle: int = OWN) -> socket:
    """The same with an idle time that its program set."""
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, idle)
    return sock


def test_what_is_shipped_makes_the_systems_values_true_for_who_asked_before(host: Host) -> None:
    """And nothing else: who never asked, or chose, is left."""
    by_system, own, bare = on(host.connection()), on(host.connection(), OWN), host.connection()
    before = settings(own)
    with host.daemon(forgetful(apply=True)) as daemon:
        daemon.expect("armed", **near_end(by_system))
        assert not daemon.heard("armed", within=A_FEW_SCANS, **near_end(own))
        assert not daemon.heard("armed", **near_end(bare))
        assert settings(by_system) == Settings(True, TUNED[TIME], TUNED[INTERVAL], TUNED[PROBES])
        assert not settings(bare).on
        assert settings(own).idle == before.idle


def test_without_apply_and_without_a_rule_nobody_is_armed(host: Host) -> None:
    """Not even who asked for keepalive."""
    with host.daemon(forgetful(timeout=BRIEF)) as daemon:
        by_system = on(host.connection())
        before = settings(by_system)
        assert daemon.heard("late", "cut", within=SOON, **near_end(by_system)), daemon.text
        assert not daemon.heard("armed", within=A_FEW_SCANS)
    assert settings(by_system) == before


def test_an_idle_time_that_a_program_chose_is_never_raised(host: Host) -> None:
    """Not even by a rule that names a longer one."""
    off, late, bare = with_own(host.connection()), on(host.connection()), host.connection()
    rule = 'action = "enable"\nidle = "200s"\ninterval = "20s"\nprobes = 5'
    with host.daemon(forgetful(rule, timeout=300)) as daemon:
        for sock in (off, late, bare):
            daemon.expect("armed", **near_end(sock))
        assert settings(off) == Settings(True, OWN, 20, 31), "only its idle time was its own, and it is shorter"
        assert settings(late) == settings(bare) == Settings(True, 200, 20, 31), "an outage of 10 min is survived still"


def test_rearm_never_touches_what_a_program_chose(host: Host) -> None:
    """Its idle time comes too late, and it is told of; only the one that asked and chose nothing is armed."""
    own, by_system, bare = on(host.connection(), OWN), on(host.connection()), host.connection()
    before = settings(own)
    with host.daemon(forgetful(REARM)) as daemon:
        daemon.expect("armed", **near_end(by_system))
        assert daemon.expect("unarmed", **near_end(own))["KEEPALIVE_RESULT"] == "kept-by-program"
        assert not daemon.heard("armed", within=A_FEW_SCANS, **near_end(own))
        assert not daemon.heard("armed", **near_end(bare))
    assert settings(own) == before
    assert settings(by_system) == SAFE
    assert settings(bare) == BARE


def test_enable_shortens_even_what_a_program_chose_if_that_comes_too_late(host: Host) -> None:
    """That is what it is asked for."""
    own = on(host.connection(), OWN)
    with host.daemon(forgetful(ENABLE)) as daemon:
        entry = daemon.expect("armed", **near_end(own))
        assert (entry["KEEPALIVE_BEFORE_IDLE_SEC"], entry["KEEPALIVE_AFTER_IDLE_SEC"]) == (OWN, SAFE.idle)
    assert settings(own) == SAFE


def test_who_switches_keepalive_off_again_is_not_fought_over(host: Host) -> None:
    """It is told of once, and left."""
    sock = host.connection()
    with host.daemon(forgetful(ENABLE)) as daemon:
        daemon.expect("armed", **near_end(sock))
        sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 0)
        assert daemon.expect("unarmed", **near_end(sock))["KEEPALIVE_RESULT"] == "changed-since"
        time.sleep(A_FEW_SCANS)
        assert len(daemon.heard("armed", "unarmed", **near_end(sock))) == 2
        assert not settings(sock).on


def test_a_path_that_is_said_to_forget_sooner_arms_anew_what_was_armed(host: Host) -> None:
    """It was the administrator who changed the mind."""
    sock = host.connection()
    with host.daemon(forgetful(ENABLE, timeout=300)) as daemon:
        daemon.expect("armed", **near_end(sock))
        daemon.reload(forgetful(ENABLE))
        daemon.expect("armed", **near_end(sock), KEEPALIVE_AFTER_IDLE_SEC=SAFE.idle)
    assert settings(sock) == SAFE


def test_disarming_puts_back_what_the_program_left_however_often_it_was_armed(host: Host) -> None:
    """Not what we ourselves had set before."""
    sock = host.connection()
    peer, state = "{}:{}".format(*sock.getpeername()), f"--state-dir={host.directory / 'state'}"
    for idle in (60, 30):
        done = host.namespace.run(*CTL, "arm", peer, f"--idle={idle}s", state)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert settings(sock).idle == idle
    assert "disarmed" in host.namespace.run(*CTL, "disarm", state).stdout
    assert settings(sock) == BARE


def state(sock: socket) -> int:
    """TCP's."""
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0]


def awaited(sock: socket, wanted: int) -> socket:
    """It, once it is in this state."""
    deadline = time.monotonic() + SOON
    while state(sock) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return sock


def test_sockets_that_are_no_open_connection_are_left_alone(host: Host) -> None:
    """Those that listen, that still connect, and that either end has half closed."""
    (closing, _), (abandoned, leaver), connected = host.connect(), host.connect(), host.connection()
    closing.shutdown(SHUT_WR)
    leaver.shutdown(SHUT_WR)
    others = [
        awaited(closing, TcpState.FIN_WAIT2),
        awaited(abandoned, TcpState.CLOSE_WAIT),
        awaited(host.unanswered(), SYN_SENT),
        awaited(host.listeners[FORGOTTEN], LISTEN),
    ]
    with host.daemon(forgetful(ENABLE)) as daemon:
        daemon.expect("armed", **near_end(connected))
        assert not daemon.heard("unarmed", within=A_FEW_SCANS)
        assert len(daemon.heard("armed")) == 1
    assert {settings(sock) for sock in others} == {BARE}


HARMFUL = ("ptrace", "kill", "tgkill", "tkill", "pidfd_send_signal", "process_vm_writev")
TRACE = ("strace", "-f", "-D", "--seccomp-bpf", "-e", f"trace=setsockopt,pidfd_getfd,{','.join(HARMFUL)}")
TOUCH = re.compile(r"setsockopt\(\d+, SOL_TCP|SO_KEEPALIVE")
HARM = re.compile(rf"\b({'|'.join(HARMFUL)})\(")
TAKE = re.compile(r"pidfd_getfd\(\d+, (\d+), 0\) += \d+")


@dataclass(frozen=True)
class Trace:
    """What a daemon did to others: options that it set, descriptors that it duplicated, and worse."""

    touched: int
    taken: list[int]
    harm: list[str]


def traced(host: Host, configuration: str, until: tuple[str, ...], *options: str) -> tuple[socket, Trace]:
    """A connection, and the deeds of a daemon until it has said one of these of it, and a few scans longer."""
    file = host.directory / "trace"
    with host.daemon(configuration, *options, through=(*TRACE, "-o", str(file))) as daemon:
        sock = host.connection()
        assert daemon.heard(*until, within=SOON, **near_end(sock)), daemon.text
        time.sleep(A_FEW_SCANS)
        daemon.stop()
    deadline = time.monotonic() + SOON
    while "+++ exited" not in (text := file.read_text(encoding="utf-8")).splitlines()[-1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return sock, Trace(len(TOUCH.findall(text)), [int(fd) for fd in TAKE.findall(text)], HARM.findall(text))


@pytest.mark.parametrize(
    "configuration",
    [forgetful(OBSERVE, BRIEF), forgetful(REARM, BRIEF)],
    ids=["observe", "rearm, where nobody asked"],
)
def test_who_is_only_watched_keeps_its_sockets_to_itself(configuration: str, host: Host) -> None:
    """Not one option is set, not one descriptor duplicated."""
    sock, trace = traced(host, configuration, ("bare", "cut"))  # the latter where a busy machine looks late
    assert trace == Trace(0, [], [])
    assert settings(sock) == BARE


def test_a_dry_run_reads_sockets_and_sets_nothing(host: Host) -> None:
    """What it foretells depends on what a program chose, and only its socket tells that."""
    sock, trace = traced(host, forgetful(ENABLE), ("armed",), "--dry-run")
    assert set(trace.taken) == {sock.fileno()}
    assert (trace.touched, trace.harm) == (0, [])
    assert settings(sock) == BARE


def test_a_dry_run_says_what_would_really_be_done(host: Host) -> None:
    """Neither rule would touch what its program chose."""
    own = on(host.connection(), OWN)
    with host.daemon(forgetful(REARM), "--dry-run") as daemon:
        assert daemon.expect("unarmed", **near_end(own))["KEEPALIVE_RESULT"] == "kept-by-program"


def test_of_all_descriptors_only_that_of_the_connection_is_touched(host: Host) -> None:
    """Not the process's files, its sockets of other kinds, its other connections, nor the process.

    It is taken twice at most: to arm it, and to read by which idle time its timer runs.
    """
    host.connect(LASTING)
    with (
        socket(AF_INET, SOCK_DGRAM) as _datagrams,
        socketpair()[0] as _local,
        tempfile.TemporaryFile() as _file,
        os.fdopen(os.eventfd(0)) as _event,
    ):
        sock, trace = traced(host, forgetful(ENABLE), ("armed",))
        assert (trace.touched, set(trace.taken), trace.harm) == (4, {sock.fileno()}, [])
        assert len(trace.taken) <= len(("armed", "read"))
    assert settings(sock) == SAFE


def with_a_probe_out(host: Host) -> tuple[socket, str]:
    """A socket whose only probe is not answered yet, and the options by which it is named to keepalivectl.

    Its connection ends once SOON is over, unless the peer is heard of before that.
    """
    sock = host.connection()
    for option, value in ((TCP_KEEPIDLE, 1), (TCP_KEEPINTVL, int(SOON)), (TCP_KEEPCNT, 1)):
        sock.setsockopt(IPPROTO_TCP, option, value)
    cut(host, sock)
    on(sock)
    wait_for(lambda: unanswered(sock) == 1)
    return sock, "{}:{}".format(*sock.getsockname())


def cut(host: Host, sock: socket) -> None:
    """Drop each packet of this connection."""
    ports = f"{{ {sock.getsockname()[1]}, {sock.getpeername()[1]} }}"
    lost = f"tcp sport {ports} tcp dport {ports} drop"
    host.namespace.nft(f"table ip cut {{ chain out {{ type filter hook output priority 0; {lost}; }}; }}")


def unanswered(sock: socket) -> int:
    """The number of probes that the peer has not answered yet (tcpi_probes)."""
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 4)[3]


def lives(sock: socket) -> bool:
    """Whether the kernel has not given it up."""
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == TcpState.ESTABLISHED


FASTER = ("--idle=1s", "--interval=1s", "--probes=1")


@pytest.mark.parametrize("engine", BY_EACH)
def test_a_socket_with_an_unanswered_probe_is_not_armed_by_hand(host: Host, engine: str) -> None:
    """Its timer would be restarted, find that as many probes are unanswered as it has, and end the connection."""
    sock, end = with_a_probe_out(host)
    before = settings(sock)
    (host.directory / "config.toml").write_text(forgetful(), encoding="utf-8")
    places = (f"--config={host.directory}/config.toml", f"--state-dir={host.directory}/state")
    done = host.namespace.run(*WITH_ONLY[engine], *CTL, "arm", end, *FASTER, *places)
    assert (lives(sock), settings(sock)) == (True, before), done
    assert f"-> {FORGOTTEN}:{sock.getpeername()[1]}: not armed: keepalive probe unanswered: " in done.stderr, done


@pytest.mark.parametrize("engine", BY_EACH)
def test_the_daemon_leaves_a_socket_with_an_unanswered_probe_alone_even_when_root_orders_to_arm_it(
    host: Host, engine: str
) -> None:
    """The order is refused, and says why."""
    sock, _ = with_a_probe_out(host)
    before, path = settings(sock), host.directory / "control"
    cookie = int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
    through = ("env", f"RUNTIME_DIRECTORY={host.directory}", *UNDER[engine])
    with host.daemon(forgetful().replace('"netlink"', f'"{engine}"'), through=through) as daemon:
        wait_for(lambda: sock.getsockname()[1] in local_ports(path))
        answer = ask(path, "Arm", {"cookie": cookie, "idle": 1, "interval": 1, "probes": 1}, SOON)
        assert (lives(sock), settings(sock)) == (True, before), answer
        assert answer["result"] == "keepalive probe unanswered"
        assert daemon.expect("unarmed", **near_end(sock))["KEEPALIVE_RESULT"] == "keepalive-probe-unanswered"
        daemon.stop()


def local_ports(path: Path) -> set[int]:
    """Those of all connections that the daemon lists."""
    return {one["local"]["port"] for reply in every(path, "ListConnections", {}, SOON) for one in reply["connections"]}


@pytest.mark.parametrize("engine", BY_EACH)
def test_a_socket_with_more_unanswered_probes_than_it_had_before_is_not_disarmed_until_the_peer_answers(
    host: Host, engine: str
) -> None:
    """It would be ended at once."""
    sock = on(host.connection(), 1)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, int(SOON))
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, 2)
    before = settings(sock)
    (host.directory / "config.toml").write_text(forgetful(), encoding="utf-8")
    state = f"--state-dir={host.directory}/state"
    armed = ("arm", "{}:{}".format(*sock.getsockname()), "--interval=1s", "--probes=100", "--idle=1s")
    done = host.namespace.run(*WITH_ONLY[engine], *CTL, *armed, f"--config={host.directory}/config.toml", state)
    assert (ours := settings(sock)) != before, done
    cut(host, sock)
    wait_for(lambda: unanswered(sock) > before.probes)
    done = host.namespace.run(*WITH_ONLY[engine], *CTL, "disarm", state)
    assert (lives(sock), settings(sock)) == (True, ours), done
    assert f"-> {FORGOTTEN}:{sock.getpeername()[1]}: not disarmed: keepalive probe unanswered" in done.stderr, done
    host.namespace.nft("delete table ip cut")
    wait_for(lambda: not unanswered(sock))
    done = host.namespace.run(*WITH_ONLY[engine], *CTL, "disarm", state)
    assert settings(sock) == before, done
