"""What was armed stays as it was set, whatever becomes of the system's settings, and goes back to what it was."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import (
    AF_UNIX,
    IPPROTO_TCP,
    SHUT_WR,
    SO_KEEPALIVE,
    SOCK_DGRAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
    socket,
)

import pytest

from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.model.sockets import TcpState
from tests.kernel.test_rescue import UNDER
from tests.kernel.test_restraint import awaited
from tests.support.loopback import (
    A_FEW_SCANS,
    BARE,
    FORGOTTEN,
    SOON_FORGOTTEN,
    Host,
    Settings,
    forgetful,
    near_end,
    settings,
)
from tests.support.patience import SOON
from tests.support.processes import CTL, TUNED, Daemon
from tests.support.rig import INTERVAL, PROBES, TIME, UNTUNED
from tests.support.versions import ITERATOR, since

BY_EACH = ["netlink", pytest.param("bpf", marks=since(ITERATOR))]
OURS = Settings(True, TUNED[TIME], TUNED[INTERVAL], TUNED[PROBES])
AS_CONFIGURED = 'action = "enable"'  # with the times of [keepalive], which are the system's while the daemon runs
TWENTY = 20


@dataclasses.dataclass
class Scene:
    """A host, and the engine under which its daemon runs."""

    host: Host
    engine: str

    def configuration(self, more: str = "", timeout: float = SOON_FORGOTTEN, idle: int = TUNED[TIME]) -> str:
        """Arm whatever is at risk as [keepalive] says, and apply that; `more` goes in there."""
        text = forgetful(AS_CONFIGURED, timeout, apply=True).replace('"netlink"', f'"{self.engine}"')
        return text.replace("[keepalive]", f"[keepalive]\n{more}").replace(f'"{TUNED[TIME]}s"', f'"{idle}s"', 1)

    def daemon(self, more: str = "", idle: int = TUNED[TIME]) -> contextlib.AbstractContextManager[Daemon]:
        """A daemon that runs here."""
        return self.host.daemon(self.configuration(more, idle=idle), through=UNDER[self.engine])

    def lives(self, *armed: socket, more: str = "", during: Callable[[], object] = lambda: None) -> None:
        """A daemon starts, arms these, and stops."""
        with self.daemon(more=more) as daemon:
            for sock in armed:
                daemon.expect("armed", **near_end(sock))
            during()
            daemon.stop()
        assert self.host.namespace.keepalive == UNTUNED

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What keepalivectl says there."""
        return self.host.namespace.run(*CTL, *words, f"--state-dir={self.host.directory / 'state'}")

    def disarm(self) -> str:
        """By hand; what it says."""
        done = self.ctl("disarm")
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


@pytest.fixture(params=BY_EACH)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with Host(tmp_path) as host:
        yield Scene(host, request.param)


OPTIONS = {
    "on": (SOL_SOCKET, SO_KEEPALIVE),
    "idle": (IPPROTO_TCP, TCP_KEEPIDLE),
    "interval": (IPPROTO_TCP, TCP_KEEPINTVL),
    "probes": (IPPROTO_TCP, TCP_KEEPCNT),
}


def with_options(sock: socket, **options: int) -> socket:
    """The same, as its program set it."""
    for name, value in options.items():
        sock.setsockopt(*OPTIONS[name], value)
    return sock


def test_what_was_armed_stays_so_when_the_daemon_stops_and_restores_the_settings(scene: Scene) -> None:
    """The interval and the number of probes, too, though they were the system's at that moment."""
    bare, asked = scene.host.connection(), with_options(scene.host.connection(), on=1)
    scene.lives(bare, asked)
    assert (settings(bare), settings(asked)) == (OURS, OURS)


def test_a_socket_whose_user_timeout_ends_it_before_its_probes_do_is_left_and_said(scene: Scene) -> None:
    """Such an outage would be the end of a connection that keepalive had never touched."""
    sock = scene.host.connection()
    sock.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)
    with scene.daemon() as daemon:
        entry = daemon.expect("unarmed", **near_end(sock))
        assert "TCP_USER_TIMEOUT" in str(entry["MESSAGE"])
        daemon.stop()
    assert settings(sock) == BARE


def test_after_start_stop_and_disarm_each_socket_has_exactly_what_it_had(scene: Scene) -> None:
    """Twenty of twenty: bare ones, some that asked, and some that chose."""
    kinds: list[dict[str, int]] = [{}, {"on": 1}, {"idle": 900}, {"on": 1, "interval": 60, "probes": 4}]
    ends = [with_options(scene.host.connection(), **kinds[number % 4]) for number in range(TWENTY)]
    before = [settings(end) for end in ends]
    with scene.daemon() as daemon:
        daemon.expect("armed")
        deadline = time.monotonic() + SOON
        while not all(settings(end).on for end in ends):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        daemon.stop()
    assert scene.host.namespace.keepalive == UNTUNED
    assert "changed since" not in scene.disarm()
    assert [settings(end) for end in ends] == before


@pytest.mark.parametrize("by", ["stop", "hand"])
def test_what_a_socket_took_from_its_namespace_it_takes_from_there_again(scene: Scene, by: str) -> None:
    """As the namespace's settings are when it is disarmed; what its program chose goes back as it was."""
    bare, chosen = scene.host.connection(), with_options(scene.host.connection(), probes=4)
    now = {TIME: 3600, INTERVAL: 60, PROBES: 7}
    if by == "hand":
        scene.lives(bare, chosen)
        scene.host.namespace.keepalive = now
        scene.disarm()
    else:
        scene.host.namespace.keepalive = now
        with scene.daemon(more="disarm_on_stop = true") as daemon:
            for sock in (bare, chosen):
                daemon.expect("armed", **near_end(sock))
            daemon.stop()
        assert scene.host.namespace.keepalive == now
    assert (settings(bare), settings(chosen)) == (Settings(False, 3600, 60, 7), Settings(False, 3600, 60, 4))


def test_a_stop_disarms_a_socket_whose_peer_is_ignored_since_a_reload(scene: Scene) -> None:
    """No scan of that daemon shows this socket any more."""
    sock = scene.host.connection()
    configuration = scene.configuration("disarm_on_stop = true")
    with scene.daemon(more="disarm_on_stop = true") as daemon:
        daemon.expect("armed", **near_end(sock))
        daemon.reload(configuration.replace("ignore = []", f'ignore = ["{FORGOTTEN}/32"]'))
        daemon.expect("reloaded")
        daemon.stop()
    assert settings(sock) == BARE
    assert scene.disarm().startswith("nothing to disarm")


@pytest.mark.parametrize("first", ["disarm", "restore"])
def test_after_a_kill_disarm_and_restore_leave_what_was_there_in_any_order(scene: Scene, first: str) -> None:
    """While the settings of the killed daemon stand, its sockets get what its namespace would say without it."""
    bare, asked = scene.host.connection(), with_options(scene.host.connection(), on=1)
    with scene.daemon() as daemon:
        for sock in (bare, asked):
            daemon.expect("armed", **near_end(sock))
        daemon.kill()
    for words in (("disarm",), ("restore",)) if first == "disarm" else (("restore",), ("disarm",)):
        assert scene.ctl(*words).returncode == 0
    assert scene.host.namespace.keepalive == UNTUNED
    assert (settings(bare), settings(asked)) == (BARE, BARE._replace(on=True))


@pytest.mark.parametrize("by", ["stop", "hand"])
def test_half_closed_sockets_are_disarmed_too(scene: Scene, by: str) -> None:
    """Both ends of a connection that one program half closed, while the daemon ran."""
    near, far = scene.host.connect()
    other_near, other_far = scene.host.connect()

    def half_close() -> None:
        near.shutdown(SHUT_WR)
        other_far.shutdown(SHUT_WR)
        awaited(near, TcpState.FIN_WAIT2)
        awaited(other_near, TcpState.CLOSE_WAIT)

    scene.lives(near, other_near, more="disarm_on_stop = true" if by == "stop" else "", during=half_close)
    if by == "hand":
        assert settings(near).on
        assert scene.disarm().count(": disarmed: off") >= 2
    assert [settings(end) for end in (near, far, other_near, other_far)] == [BARE] * 4


@pytest.mark.parametrize("ends", ["stop", "once"])
def test_what_a_daemon_puts_back_as_it_ends_the_next_one_arms_again(scene: Scene, ends: str) -> None:
    """`rearm` leaves what a program chose. It chose nothing here, though the kernel takes all that was set for that."""
    asked, chosen = with_options(scene.host.connection(), on=1), with_options(scene.host.connection(), on=1)
    configuration = scene.configuration("disarm_on_stop = true").replace('"enable"', '"rearm"')
    options = ["--once"] if ends == "once" else []
    for _ in range(3):
        with scene.host.daemon(configuration, *options, through=UNDER[scene.engine]) as daemon:
            daemon.expect("armed", **near_end(asked))
            daemon.ended() if options else daemon.stop()
        assert settings(asked) == BARE._replace(on=True)
        assert scene.disarm().startswith("nothing to disarm")
    with_options(chosen, idle=900)
    with scene.host.daemon(configuration, through=UNDER[scene.engine]) as daemon:
        daemon.expect("armed", **near_end(asked))
        daemon.stop()
    assert settings(chosen) == BARE._replace(on=True, idle=900), "its program has chosen since"


def test_a_run_with_once_leaves_no_socket_armed(scene: Scene) -> None:
    """It restores all that it set."""
    bare = scene.host.connection()
    home = scene.host.directory
    (home / "config.toml").write_text(scene.configuration())
    with scene.host.daemon(scene.configuration(), "--once", through=UNDER[scene.engine]) as daemon:
        daemon.expect("armed", **near_end(bare))
        daemon.expect("restored", within=SOON)
        daemon.ended()
    assert settings(bare) == BARE
    assert scene.host.namespace.keepalive == UNTUNED
    assert scene.disarm().startswith("nothing to disarm")


def test_what_the_daemon_set_itself_it_never_takes_for_somebody_elses(scene: Scene) -> None:
    """The administrator lowers the times: it arms its own sockets anew, by the new ones.

    The new timeout is longer than the connection is quiet on a busy machine: what it survived would count instead.
    """
    sock = scene.host.connection()
    with scene.daemon(idle=60) as daemon:
        daemon.expect("armed", **near_end(sock), KEEPALIVE_AFTER_IDLE_SEC=60)
        daemon.reload(scene.configuration(idle=40, timeout=60).replace(f"probes = {TUNED[PROBES]}", "probes = 7"))
        daemon.expect("armed", **near_end(sock), KEEPALIVE_AFTER_IDLE_SEC=40)
        assert not daemon.heard("unarmed", within=A_FEW_SCANS)
    assert settings(sock).idle == 40


def test_an_idle_time_that_is_too_long_for_the_path_is_not_set_and_not_called_armed(scene: Scene) -> None:
    """What to do instead is said, once."""
    asked = with_options(scene.host.connection(), on=1)
    with scene.daemon(idle=120) as daemon:
        entry = daemon.expect("unarmed", **near_end(asked))
        assert entry["KEEPALIVE_RESULT"] == "too-long-for-path"
        assert 'use idle = "auto", or at most 1min 19s' in entry["MESSAGE"]
        assert not daemon.heard("armed", within=A_FEW_SCANS)
        assert len(daemon.heard("unarmed", **near_end(asked))) == 1
        daemon.stop()
    assert settings(asked) == BARE._replace(on=True), "it follows the system's settings again"


def test_who_may_not_arm_arms_nothing_and_is_told_so_by_the_status(tmp_path: Path) -> None:
    """Root without a capability; 77 is EX_NOPERM."""
    with Host(tmp_path) as host:
        sock = host.connection()
        peer = "{}:{}".format(*sock.getpeername())
        state = f"--state-dir={tmp_path / 'state'}"
        done = host.namespace.run("setpriv", "--bounding-set=-all", *CTL, "arm", peer, state)
        assert (done.returncode, done.stdout) == (77, ""), done
        assert "not permitted" in done.stderr
        assert settings(sock) == BARE


JOURNAL = """
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
ln -s "$1" /run/systemd/journal/socket
shift
exec "$@"
"""


def test_what_is_armed_and_disarmed_by_hand_is_in_the_journal(tmp_path: Path) -> None:
    """With all fields, the user and the rule "hand" among them."""
    with Host(tmp_path) as host, socket(AF_UNIX, SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        journal.settimeout(SOON)
        sock = host.connection()
        inside = ("unshare", "--mount", "sh", "-euc", JOURNAL, "sh", str(tmp_path / "journal"))
        state = f"--state-dir={tmp_path / 'state'}"
        for words, event in ((("arm", "{}:{}".format(*sock.getpeername())), "armed"), (("disarm",), "disarmed")):
            done = host.namespace.run(*inside, *CTL, *words, state)
            assert (done.returncode, done.stderr) == (0, ""), done
            for _ in ("near end", "far end"):
                fields = journal.recv(65536).decode().splitlines()
                assert f"MESSAGE_ID={MESSAGE_IDS[event]}" in fields
                assert "KEEPALIVE_RULE=hand" in fields
                assert any(field.startswith("KEEPALIVE_BY_UID=") for field in fields)


def test_a_moment_without_descriptors_is_no_choice_of_anybodys(tmp_path: Path) -> None:
    """The socket is armed once there is room again, and nothing else was recorded meanwhile."""
    with Host(tmp_path) as host, host.daemon(forgetful(AS_CONFIGURED)) as daemon:
        daemon.expect("started")
        with one_descriptor(daemon.pid):
            sock = host.connection()
            time.sleep(A_FEW_SCANS)
            assert settings(sock) == BARE
        daemon.expect("armed", **near_end(sock))
        assert settings(sock).on
        assert not daemon.heard("unarmed")
        for refused in daemon.heard("refused"):
            assert "raise the limit of open files" in str(refused["MESSAGE"])


@contextlib.contextmanager
def one_descriptor(pid: int) -> Iterator[None]:
    """Leave a process room for one more descriptor, so that a second one is one too many.

    Those that only a scan has open are not open all the time.
    """
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    for _ in range(100):
        time.sleep(A_FEW_SCANS / 100)
        taken &= set(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = [number for number in range(len(taken) + 2) if number not in taken]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[1], before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
