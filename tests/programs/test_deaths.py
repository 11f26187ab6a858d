"""OpenSSH and PostgreSQL, ended by a firewall, by the peer, by its full disk, by ss -K and by SIGKILL.

The log names who it was.
"""

from __future__ import annotations

import re
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from tests.kernel.test_own_firewall import FORGETS
from tests.programs import postgresql
from tests.programs.conftest import missing
from tests.programs.openssh import OpenSSH
from tests.programs.postgresql import PostgreSQL
from tests.programs.stage import USER, awaited
from tests.support.patience import SOON, TICK, wait_for
from tests.support.processes import Daemon, Entry, Home
from tests.support.rig import TIMEOUT, Rig
from tests.support.unprivileged import reachable_directory

CONFIGURATION = """
[keepalive]
apply = false
arm = "observe"
[watch]
namespaces = "own"
interval = "1s"
warn_before = "1s"
ignore = []
[autopsy]
log = "all"
"""
BEGUN = "begun"  # what a client prints once it is connected
FRAGILE = 5434  # port of the server whose process is killed
ROOMLESS = 5433  # port of the server whose disk is full soon
UNFORGIVING = {"restart_after_crash": "off"}
MUCH = "head --bytes=60000000 /dev/urandom | base64 --wrap=1000"  # that a client sends
LONG = 600  # seconds that a command takes
MARGIN = 4  # seconds by which the silence is longer: on a busy machine the last acknowledgement comes late


def is_stopped_server(process: psutil.Process) -> bool:
    """Return whether this is a server of a session that was stopped."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_STOPPED and process.name().startswith("sshd")
    return False


def backend_of(client: Client) -> psutil.Process:
    """Return the process of PostgreSQL that takes what a client sends."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                if re.search(rf"^postgres: .*\({client.port}\) COPY", " ".join(process.cmdline())):
                    return process
        time.sleep(TICK)
    raise AssertionError("PostgreSQL has no process that takes what the client sends")


@dataclass(frozen=True)
class Client:
    """A program at the client, and the port of its connection there."""

    process: Popen[str]
    port: int

    def type(self, word: str) -> None:
        """Let it send something."""
        assert self.process.stdin
        print(word, file=self.process.stdin, flush=True)


@dataclass
class Place:
    """Both servers over a firewall that forgets, and a daemon at each end."""

    rig: Rig
    ssh: OpenSSH
    postgres: PostgreSQL
    at_client: Daemon
    at_server: Daemon
    stack: ExitStack
    directory: Path

    def session(self, command: str) -> Client:
        """A client of OpenSSH that has said that it begins."""
        return self._begun(self.ssh.session(self.rig, f"echo {BEGUN}; {command}"))

    def query(self, *statements: str, port: int = postgresql.PORT) -> Client:
        """A client of PostgreSQL, likewise."""
        return self._begun(self.postgres.query(self.rig, rf"\echo {BEGUN}", *statements, port=port))

    def _begun(self, program: AbstractContextManager[Popen[str]]) -> Client:
        before = self._ports()
        process = self.stack.enter_context(program)
        assert process.stdout
        assert BEGUN in awaited(process.stdout, BEGUN)
        (port,) = self._ports() - before
        return Client(process, port)

    def _ports(self) -> set[int]:
        done = self.rig.client.run("ss", "-Htn", "state", "established")
        return {int(line.split()[2].rpartition(":")[2]) for line in done.stdout.splitlines()}

    def died(self, client: Client) -> Entry:
        """What the daemon at the client says of it."""
        return self.at_client.expect("died", KEEPALIVE_LOCAL_PORT=client.port)

    def ended_by_the_firewall(self) -> dict[str, Entry]:
        """Of both programs, what is said where the reset arrives; PostgreSQL's client would wait for ever."""
        typist, query = self.session("read word"), self.query(f"select pg_sleep({TIMEOUT + MARGIN})")
        time.sleep(TIMEOUT + MARGIN)
        typist.type("hello")
        at_server = self.at_server.expect("died", KEEPALIVE_REMOTE_PORT=query.port)
        return {"ssh, firewall": self.died(typist), "postgresql, firewall": at_server}

    def ended_by_the_peer(self) -> dict[str, Entry]:
        """What is said where the peer is killed before it has read everything."""
        arrived = self.directory / "arrived"
        wait = f"while [ ! -e {arrived} ]; do sleep 0.1; done"
        client = self.session(f"read word; kill -STOP $PPID; {wait}; kill -KILL $PPID")
        client.type("now")
        deadline = time.monotonic() + SOON
        while not any(is_stopped_server(process) for process in psutil.process_iter()):
            assert time.monotonic() < deadline
            time.sleep(TICK)
        client.type("unread")
        self._await_unread(client)
        arrived.touch()
        return {"ssh, peer": self.died(client), "postgresql, peer": self.died(self._whose_backend_is_killed())}

    def _whose_backend_is_killed(self) -> Client:
        """A client that sends while the process that serves it is stopped, and then killed."""
        self.stack.enter_context(self.postgres.served(self.rig, little_room=False, port=str(FRAGILE), **UNFORGIVING))
        client = self.query("create table much (line text)", rf"\copy much from program '{MUCH}'", port=FRAGILE)
        backend = backend_of(client)
        backend.suspend()
        self._await_unread(client)
        backend.kill()
        return client

    def _await_unread(self, client: Client) -> None:
        """Wait until something has arrived from a client that its server does not read."""
        queue = ("ss", "-Htn", "state", "established", "dport", "=", f":{client.port}")
        wait_for(lambda: any(int(line.split()[0]) for line in self.rig.server.run(*queue).stdout.splitlines()))

    def ended_by_a_full_disk(self) -> dict[str, Entry]:
        """What is said at both ends when the server cannot write what the client sends, and gives itself up."""
        self.stack.enter_context(self.postgres.served(self.rig, little_room=True, port=str(ROOMLESS), **UNFORGIVING))
        client = self.query("create table much (line text)", rf"\copy much from program '{MUCH}'", port=ROOMLESS)
        at_server = self.at_server.expect("died", KEEPALIVE_REMOTE_PORT=client.port)
        return {"postgresql, full disk": self.died(client), "postgresql, full disk, at the server": at_server}

    def ended_here(self) -> dict[str, Entry]:
        """What is said where ss destroys the connection, or a signal ends its program."""
        entries: dict[str, Entry] = {}
        for name, begin in (("ssh", self._sleeping), ("postgresql", self._selecting)):
            killed, destroyed = begin(), begin()
            assert self.rig.client.run("ss", "-K", "-tn", f"sport = :{destroyed.port}").returncode == 0
            killed.process.kill()
            entries |= {f"{name}, ss": self.died(destroyed), f"{name}, signal": self.died(killed)}
        return entries

    def _sleeping(self) -> Client:
        return self.session(f"sleep {LONG}")

    def _selecting(self) -> Client:
        return self.query(f"select pg_sleep({LONG})")


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    """What is said of each end."""
    if reason := missing():
        pytest.skip(reason)
    with reachable_directory() as directory, ExitStack() as stack:
        shutil.chown(directory, USER)
        ssh, postgres = OpenSSH(directory), PostgreSQL(directory)
        rig = stack.enter_context(Rig("reject"))
        at_client, at_server = (
            stack.enter_context(Home(directory / name, CONFIGURATION).daemon(end))
            for name, end in (("client", rig.client), ("server", rig.server))
        )
        stack.enter_context(ssh.served(rig))
        stack.enter_context(postgres.served(rig))
        place = Place(rig, ssh, postgres, at_client, at_server, stack, directory)
        forgotten = place.ended_by_the_firewall()
        rig.firewall.set_sysctl(FORGETS, 3600)  # else it would end what a busy machine is slow to end in another way
        return forgotten | place.ended_by_the_peer() | place.ended_by_a_full_disk() | place.ended_here()


@pytest.mark.parametrize("program", ["ssh", "postgresql"])
def test_a_firewall_that_forgot_is_named_with_its_hop_and_a_remedy(program: str, entries: dict[str, Entry]) -> None:
    entry = entries[f"{program}, firewall"]
    assert (entry["KEEPALIVE_CAUSE"], entry["KEEPALIVE_HOP"]) == ("middlebox-idle", 1), entry
    assert "at hop 1 of 2" in entry["MESSAGE"]
    assert "[[arm]]" in entry["KEEPALIVE_REMEDY"]


@pytest.mark.parametrize("program", ["ssh", "postgresql"])
def test_a_peer_that_was_killed_is_named(program: str, entries: dict[str, Entry]) -> None:
    assert entries[f"{program}, peer"]["KEEPALIVE_CAUSE"] == "peer-aborted", entries


def test_a_peer_whose_disk_was_full_is_named_and_there_its_program(entries: dict[str, Entry]) -> None:
    """PostgreSQL gives itself up. Its process that met the full disk aborts, and makes all others end.

    Data was on the way, and is answered by resets, too, one of which may overtake that of the process on another core.
    If the process had read all that had arrived, its kernel closes the connection in the ordinary way first.
    """
    entry = entries["postgresql, full disk"]
    assert entry["KEEPALIVE_CAUSE"] in ("peer-aborted", "unknown-to-peer", "wrote-after-close"), entry
    named = {entry["KEEPALIVE_CAUSE"], *entry["KEEPALIVE_OTHER_CAUSES"].split()}
    assert named & {"peer-aborted", "wrote-after-close"}, entry
    at_server = entries["postgresql, full disk, at the server"]
    assert at_server["KEEPALIVE_CAUSE"] in ("program-killed", "program-ended"), entries
    assert at_server["KEEPALIVE_ENDED_BY"] == "postgres"


@pytest.mark.parametrize("program", ["ssh", "postgresql"])
def test_ss_is_named_if_it_destroyed_the_connection(program: str, entries: dict[str, Entry]) -> None:
    entry = entries[f"{program}, ss"]
    assert (entry["KEEPALIVE_CAUSE"], entry.get("KEEPALIVE_ENDED_BY")) == ("local-kill", "ss"), entry
    assert "(certain" in entry["MESSAGE"]


@pytest.mark.parametrize(("program", "name"), [("ssh", "ssh"), ("postgresql", "psql")])
def test_a_program_that_was_killed_is_named_with_the_signal(program: str, name: str, entries: dict[str, Entry]) -> None:
    entry = entries[f"{program}, signal"]
    assert (entry["KEEPALIVE_CAUSE"], entry["KEEPALIVE_SIGNAL"]) == ("program-killed", 9), entry
    assert entry["KEEPALIVE_ENDED_BY"] == name
