"""OpenSSH and PostgreSQL, quiet for longer than the firewall is patient: dead without help, alive with it.

All of them are quiet at the same time, in rigs side by side; then they are looked at one by one.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Literal

import pytest

from tests.programs import openssh, postgresql
from tests.programs.conftest import missing
from tests.programs.openssh import OpenSSH
from tests.programs.postgresql import PostgreSQL
from tests.programs.stage import USER, awaited
from tests.support.patience import wait_for
from tests.support.processes import ENABLE, Daemon, Entry, Home, arming
from tests.support.rig import TIMEOUT, Mode, Rig
from tests.support.unprivileged import reachable_directory

Help = Literal["nobody", "client", "server"]  # at which end a daemon runs
Kind = Literal["ssh", "ssh typed into", "psql"]

MODES: list[Mode] = ["reject", "drop"]
ENDS: list[Help] = ["client", "server"]
KINDS: list[Kind] = ["ssh", "ssh typed into", "psql"]
NAP = TIMEOUT + 5  # seconds of silence: more than the firewall has patience for
PATIENCE = 6  # seconds in which an answer arrives, if ever
BEGUN = "begun"  # what a client prints once it is connected
ANSWER = "answered"


@dataclass(frozen=True)
class Fate:
    """What became of a client: its exit status, None if it waits; `served`: whether the server has answered."""

    answered: bool
    status: int | None
    complaint: str
    served: bool


@dataclass(frozen=True)
class Night:
    """What the silence brought about."""

    fates: dict[tuple[Kind, Mode, Help], Fate]
    armed: dict[tuple[Mode, Help], list[Entry]]  # what the daemon there said of it


@dataclass(frozen=True)
class Client:
    """A program at the client; `served` is there once the server has answered."""

    process: Popen[str]
    served: Path

    def await_silence(self) -> None:
        """Until it is connected."""
        assert self.process.stdout
        assert BEGUN in awaited(self.process.stdout, BEGUN)

    def fate(self) -> Fate:
        """What has become of it by now."""
        assert self.process.stdout
        assert self.process.stderr
        return Fate(
            ANSWER in awaited(self.process.stdout, ANSWER, within=0),
            self.process.poll(),
            awaited(self.process.stderr, "\n", within=0).strip(),
            self.served.exists(),
        )


class Stage:
    """A rig with both servers, and a daemon at one end if there is help."""

    def __init__(self, stack: ExitStack, rig: Rig, ssh: OpenSSH, postgres: PostgreSQL, directory: Path) -> None:
        directory.mkdir()
        shutil.chown(directory, USER)
        self._stack, self._rig, self._ssh, self._postgres, self._directory = stack, rig, ssh, postgres, directory
        stack.enter_context(ssh.served(rig))
        stack.enter_context(postgres.served(rig))

    def helped(self, at: Help) -> Daemon:
        end = self._rig.client if at == "client" else self._rig.server
        return self._stack.enter_context(Home(self._directory / "home", arming(ENABLE)).daemon(end))

    def quiet(self, kind: Kind) -> Client:
        """A client with something to say, or to be told, after the silence."""
        served = self._directory / kind.replace(" ", "-")
        match kind:
            case "ssh":
                program = self._ssh.session(self._rig, f"echo {BEGUN}; sleep {NAP}; touch {served}; echo {ANSWER}")
            case "ssh typed into":
                program = self._ssh.session(self._rig, f"echo {BEGUN}; read word; touch {served}; echo $word")
            case "psql":
                statement = f"select pg_sleep({NAP}); copy (select) to '{served}'; select '{ANSWER}'"
                program = self._postgres.query(self._rig, rf"\echo {BEGUN}", statement)
        return Client(self._stack.enter_context(program), served)


@pytest.fixture(scope="module")
def night() -> Night:
    """One silence for all."""
    if reason := missing():
        pytest.skip(reason)
    daemons: dict[tuple[Mode, Help], Daemon] = {}
    clients: dict[tuple[Kind, Mode, Help], Client] = {}
    with reachable_directory() as directory, ExitStack() as stack:
        shutil.chown(directory, USER)
        ssh, postgres = OpenSSH(directory), PostgreSQL(directory)
        stages = {}
        for mode, helped in itertools.product(MODES, ["nobody", *ENDS]):
            rig = stack.enter_context(Rig(mode))
            stages[mode, helped] = stage = Stage(stack, rig, ssh, postgres, directory / f"{mode}-{helped}")
            if helped != "nobody":
                daemons[mode, helped] = stage.helped(helped)
        for (mode, helped), stage in stages.items():
            clients |= {(kind, mode, helped): stage.quiet(kind) for kind in KINDS}
        for client in clients.values():
            client.await_silence()
        time.sleep(NAP)
        for (kind, _, _), client in clients.items():
            if kind == "ssh typed into":
                assert client.process.stdin
                print(ANSWER, file=client.process.stdin, flush=True)
        for (kind, mode, helped), client in clients.items():
            if helped != "nobody" or (kind, mode) == ("ssh typed into", "reject"):
                wait_for(partial(has_ended, client))
        time.sleep(PATIENCE)  # the others hang
        return Night(
            {case: client.fate() for case, client in clients.items()},
            {where: each.heard("armed") for where, each in daemons.items()},
        )


def has_ended(client: Client) -> bool:
    """Whether the program has."""
    return client.process.poll() is not None


def server_port(entry: Entry) -> int:
    """Of the connection that an entry is about."""
    ports: tuple[int, int] = entry["KEEPALIVE_LOCAL_PORT"], entry["KEEPALIVE_REMOTE_PORT"]
    return min(ports)


def process(entry: Entry) -> str:
    """The one it names, if it was found in time; sshd-session is sshd's since OpenSSH 9.8."""
    return str(entry.get("KEEPALIVE_PROCESS", "")).partition("-")[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["ssh", "psql"])
def test_without_help_a_client_waits_for_ever_for_what_the_server_said(kind: Kind, mode: Mode, night: Night) -> None:
    """The server gets the reset, if any."""
    assert night.fates[kind, mode, "nobody"] == Fate(answered=False, status=None, complaint="", served=True)


@pytest.mark.parametrize(
    ("mode", "status", "complaint"),
    [("reject", 255, "client_loop: send disconnect: Broken pipe"), ("drop", None, "")],
)
def test_without_help_a_quiet_session_ends_at_the_next_key(
    mode: Mode, status: int | None, complaint: str, night: Night
) -> None:
    """Or hangs from then on."""
    assert night.fates["ssh typed into", mode, "nobody"] == Fate(False, status, complaint, served=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_at_either_end_alone_keeps_it_alive(kind: Kind, end: Help, mode: Mode, night: Night) -> None:
    """It arms the open socket; nobody else was told anything."""
    assert night.fates[kind, mode, end] == Fate(answered=True, status=0, complaint="", served=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("end", "processes"), [("client", {"ssh", "psql"}), ("server", {"sshd", "postgres"})])
def test_each_is_armed_once(end: Help, processes: set[str], mode: Mode, night: Night) -> None:
    """Though two processes of sshd hold the same socket. On a busy machine a search for processes may end too early."""
    entries = night.armed[mode, end]
    assert Counter(map(server_port, entries)) == {openssh.PORT: 2, postgresql.PORT: 1}
    assert set(map(process, entries)) <= processes | {""}
