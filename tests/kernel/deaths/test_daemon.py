"""The real daemon logs what ended a connection, as the person who asks for it would read it."""

from __future__ import annotations

import contextlib
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_UNIX, SO_LINGER, SOCK_DGRAM, SOL_SOCKET, create_server, socket
from typing import Any, Self

import pytest

from keepaliveD.cli.asking.asking import ask
from tests.kernel.deaths.rig import SERVER, Rig
from tests.support.dropping import own_cgroup
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL, Daemon, Home
from tests.support.rig import OWN_NETWORK, Namespace

CONFIGURATION = """
[keepalive]
apply = false
[watch]
namespaces = "own"
interval = "500ms"
warn_before = "1s"
ignore = []
default_timeout = "infinity"
[autopsy]
log = "all"
"""
QUIET = 2.5  # seconds: longer than a busy connection is silent
PORT = 7000


@dataclass
class Place:
    """The rig, and the daemon at its client."""

    rig: Rig
    daemon: Daemon
    port: int = PORT

    @contextlib.contextmanager
    def connection(self) -> Iterator[tuple[socket, socket]]:
        """Both ends of a new connection that has carried a word each way."""
        self.port += 1
        with contextlib.ExitStack() as stack:
            listener = self.rig.server.inside(lambda: create_server((SERVER[AF_INET], self.port)))
            stack.enter_context(listener)
            client = stack.enter_context(self.rig.client.inside(socket))
            client.connect((SERVER[AF_INET], self.port))
            server, _ = listener.accept()
            stack.enter_context(server)
            client.sendall(b"ask")
            assert server.recv(3) == b"ask"
            server.sendall(b"answer")
            assert client.recv(6) == b"answer"
            yield client, server

    def died(self) -> dict[str, Any]:
        """The entry about the last connection."""
        entry: dict[str, Any] = self.daemon.expect("died", KEEPALIVE_REMOTE_PORT=self.port)
        return entry


@pytest.mark.parametrize("engine", ["bpf", "netlink"])
def test_a_firewall_that_forgot_is_named_with_its_hop_and_the_lines_that_prevent_it(
    engine: str, tmp_path: Path
) -> None:
    """And it is in the history after the daemon was killed."""
    home = Home(tmp_path, CONFIGURATION.replace("[watch]", f'[watch]\nengine = "{engine}"'))
    with contextlib.closing(Rig()) as rig, home.daemon(rig.client) as daemon:
        place = Place(rig, daemon)
        with place.connection() as (client, _):
            time.sleep(QUIET)
            rig.treat("firewall", "reject_there", place.port)
            client.sendall(b"hello")
            with contextlib.suppress(ConnectionResetError):
                client.recv(1)
            client.close()  # without BPF an end is seen only then
            entry = place.died()
        daemon.kill()
        listed = rig.client.run(*CTL, "deaths", f"--state-dir={home.state}")
    assert "middlebox-idle at hop 2" in listed.stdout, listed
    assert entry["KEEPALIVE_CAUSE"] == "middlebox-idle", entry
    assert entry["KEEPALIVE_HOP"] == 2
    assert entry["KEEPALIVE_CONFIDENCE"] == 0.95
    assert "[[path]]" in entry["KEEPALIVE_REMEDY"]
    assert "at hop 2 of 4" in entry["MESSAGE"]
    assert entry["KEEPALIVE_FORETOLD"] == "earlier-than-expected"


def test_at_a_stop_nothing_that_has_ended_stays_unsaid(tmp_path: Path) -> None:
    """Neither what is alike and held back, nor what ended within the last second."""
    home = Home(tmp_path, CONFIGURATION)
    with contextlib.closing(Rig()) as rig, home.daemon(rig.client) as daemon:
        place = Place(rig, daemon)
        for _ in range(ALIKE):
            _abort(place)
        daemon.expect("died")
        _abort(place)
        daemon.stop()
    entries = daemon.heard("died", KEEPALIVE_CAUSE="local-abort")
    assert sum(entry.get("KEEPALIVE_COUNT", 1) for entry in entries) == ALIKE + 1, entries
    assert len(entries) < ALIKE


ALIKE = 12  # connections: more than are reported one by one


def _abort(place: Place) -> None:
    with place.connection() as (client, _):
        client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


IMPOSTOR = """
import pathlib, socket, struct, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text("0")
pathlib.Path("/proc/self/comm").write_bytes(b"sshd\\n<0>: root")
with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as connection:
    connection.sendall(b"ask")
    connection.recv(6)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""


def test_a_program_that_names_itself_like_another_is_quoted_and_named_with_the_unit_of_its_cgroup(
    tmp_path: Path,
) -> None:
    """What it calls itself is its own affair, and a cgroup that it makes below its own; its unit is not."""
    home = Home(tmp_path, CONFIGURATION)
    with contextlib.closing(Rig()) as rig, own_cgroup(".service") as cgroup, home.daemon(rig.client) as daemon:
        below = cgroup / "sshd.service"
        below.mkdir()
        with rig.server.inside(lambda: create_server((SERVER[AF_INET], PORT))) as listener:
            command = (sys.executable, "-c", IMPOSTOR, str(below), SERVER[AF_INET], str(PORT))
            with rig.client.running(*command) as program, listener.accept()[0] as server:
                assert server.recv(3) == b"ask"
                server.sendall(b"answer")
                _, complaints = program.communicate(timeout=SOON)
                assert program.returncode == 0, complaints
                entry = daemon.expect("died", KEEPALIVE_REMOTE_PORT=PORT)
        below.rmdir()
        daemon.stop()
    assert (entry["KEEPALIVE_CAUSE"], entry["KEEPALIVE_UNIT"]) == ("local-abort", cgroup.name)
    assert entry["KEEPALIVE_ENDED_BY"] == r'"sshd\\n<0>: root"'
    assert f"({cgroup.name})" in entry["MESSAGE"]
    assert entry["MESSAGE"].isprintable()


IN_A_CONTAINER = (
    CONFIGURATION.replace('"own"', '"all"')
    + f"""
[[path]]
name = "of the container"
networks = ["{OWN_NETWORK}.7"]
timeout = "1h"
"""
)


def test_ends_in_another_network_namespace_are_in_the_status_and_in_the_metrics(tmp_path: Path) -> None:
    """As those of a container are."""
    home, control = Home(tmp_path, IN_A_CONTAINER), tmp_path / "control"
    with Namespace() as host, Namespace() as container:
        container.ip("link set lo up")
        with home.daemon(host, through=("env", f"RUNTIME_DIRECTORY={tmp_path}")) as daemon:
            container.inside(_abort_over_loopback)
            daemon.expect("died", KEEPALIVE_PATH="of the container", KEEPALIVE_NETNS=container.inode)
            wait_for(lambda: unforeseeable(control) == 2)  # the other end may be read later
            assert unforeseeable(control) == 2
            metrics = {each["name"]: each["samples"] for each in ask(control, "Metrics", patience=SOON)["metrics"]}
    by_path = metrics["tcp_keepalive_path_deaths_total"]
    (counted,) = [each for each in by_path if each["labels"]["path"] == "of the container" and each["value"]]
    assert counted["value"] == 2


def unforeseeable(control: Path) -> int:
    """How many ends of that path nobody could foresee, by the status."""
    ends = ask(control, "Status", patience=SOON)["ends"]
    return sum(each["unforeseeable"] for each in ends if each["path"] == "of the container")


def _abort_over_loopback() -> None:
    with create_server((f"{OWN_NETWORK}.7", 0)) as listener, socket() as near:
        near.bind((f"{OWN_NETWORK}.7", 0))
        near.connect(listener.getsockname())
        with listener.accept()[0] as far:
            far.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


FORGETFUL = 20  # seconds without a packet after which the firewall forgets: it does not wait for a busy machine
SILENCE = FORGETFUL + 2
GUARD = """
    table inet guard {
        chain through {
            type filter hook forward priority filter; policy drop;
            ct state established accept
            tcp flags & (fin | syn | rst | ack) == syn ct state new accept
            meta l4proto tcp reject with tcp reset
        }
    }"""


def test_with_the_lines_that_the_entry_names_the_program_lives_and_the_status_counts_a_save(tmp_path: Path) -> None:
    """The firewall is two hops away."""
    home = Home(tmp_path, CONFIGURATION)
    with contextlib.closing(Rig()) as rig:
        rig.firewall.nft(GUARD)
        rig.firewall.set_sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", FORGETFUL)
        rig.firewall.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", 0)
        with home.daemon(rig.client) as daemon:
            place = Place(rig, daemon)
            with place.connection() as (client, _):
                time.sleep(SILENCE)
                client.sendall(b"late")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            entry = place.died()
        named = entry["KEEPALIVE_CAUSE"], entry["KEEPALIVE_HOP"], entry["KEEPALIVE_CONFIDENCE"]
        assert named == ("middlebox-idle", 2, 0.95)
        home.configure(CONFIGURATION + entry["KEEPALIVE_REMEDY"])
        with Manager(tmp_path / "notify") as manager:
            environment = ("env", f"NOTIFY_SOCKET={manager.path}", f"RUNTIME_DIRECTORY={tmp_path}")
            with home.daemon(rig.client, through=environment) as daemon:
                place = Place(rig, daemon)
                with place.connection() as (client, server):
                    daemon.expect("armed")
                    time.sleep(SILENCE)
                    assert manager.status("saved 1")
                    client.sendall(b"late")
                    assert server.recv(4) == b"late"
                shown = rig.client.run(*environment, *CTL, "status")
    assert "1 silence survived by arming" in shown.stdout, shown


class Manager:
    """A service manager, as far as it shows the status."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket(AF_UNIX, SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(SOON)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def status(self, text: str) -> bool:
        """Wait until the status says this, or does not soon."""
        begin = time.monotonic()
        while text.encode() not in self._socket.recv(1 << 16):
            if time.monotonic() > begin + SOON:
                return False
        return True
