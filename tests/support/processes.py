"""What runs in a rig: programs with a connection, the daemon, and keepalivectl."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AddressFamily, create_server, socket
from typing import Any

from keepaliveD.log.entries import MESSAGE_IDS
from tests.support.patience import SOON
from tests.support.rig import (
    CLIENT_NETWORKS,
    DIE_WITH_US,
    INTERVAL,
    PROBES,
    SERVER,
    SERVER_NETWORKS,
    TIME,
    TIMEOUT,
    Namespace,
    Rig,
)

Entry = dict[str, Any]  # one line of the daemon's JSON log

TALKER = str(Path(__file__).with_name("talker.py"))
MUTE = ("unshare", "--mount", *DIE_WITH_US, sys.executable, "-S", str(Path(__file__).with_name("mute.py")))
DAEMON = (sys.executable, "-m", "keepaliveD")
CTL = (sys.executable, "-c", "from keepaliveD.__main__ import ctl; ctl()")

# What may be said of processes and network namespaces of others: process 1 of a machine that is itself a container, and
# those that another test crowds or locks.
OF_OTHERS = re.compile(
    "warning: (network namespaces of other users' processes may not be watched"
    r"|network namespace \d+ is not watched completely|\d+ (more )?network namespaces? (is|are) not watched)"
)

SCAN = 0.25  # seconds between the daemon's looks
WARNING_TIME = 6  # seconds before the cut
TUNED = {TIME: 2, INTERVAL: 1, PROBES: 5}


OBSERVE, REARM, ENABLE = (f'action = "{action}"\nidle = "auto"' for action in ("observe", "rearm", "enable"))


def arming(rule: str, timeout: float = TIMEOUT) -> str:
    """A configuration with this [[arm]] rule for all, under which no sysctl is written that could help, too."""
    return configuration("apply = false", timeout=timeout) + f"\n[[arm]]\n{rule}\n"


def configuration(*keepalive: str, idle: int = TUNED[TIME], namespaces: str = "own", timeout: float = TIMEOUT) -> str:
    """The daemon's, for a rig, with more lines for [keepalive]; in all namespaces it arms nothing: rigs are alike."""
    more = "\n".join((*keepalive, *(['arm = "observe"'] if namespaces == "all" else [])))
    return f"""
        [keepalive]
        idle = "{idle}s"
        interval = "{TUNED[INTERVAL]}s"
        probes = {TUNED[PROBES]}
        {more}
        [watch]
        interval = "{SCAN}s"
        warn_before = "{WARNING_TIME}s"
        namespaces = "{namespaces}"
        [[path]]
        name = "rig"
        networks = {json.dumps(CLIENT_NETWORKS + SERVER_NETWORKS)}
        timeout = "{timeout}s"
    """


def tell(program: subprocess.Popen[str], line: str = "") -> None:
    """Give it a line of input."""
    print(line, file=program.stdin, flush=True)


def next_line(program: subprocess.Popen[str]) -> str:
    """What it says next."""
    assert program.stdout
    return program.stdout.readline()


@dataclass(frozen=True)
class Program:
    """A program at the client with a connection to the server; `far` is the server's end of it."""

    process: subprocess.Popen[str]
    far: socket

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def name(self) -> str:
        """Its name, as the kernel knows it."""
        return Path(f"/proc/{self.pid}/comm").read_text(encoding="utf-8").strip()

    @property
    def endpoints(self) -> Entry:
        """Both ends, as the log gives them."""
        local, remote = self.far.getpeername(), self.far.getsockname()
        return {
            "KEEPALIVE_LOCAL_ADDRESS": local[0],
            "KEEPALIVE_LOCAL_PORT": local[1],
            "KEEPALIVE_REMOTE_ADDRESS": remote[0],
            "KEEPALIVE_REMOTE_PORT": remote[1],
        }

    def speak(self) -> str:
        """What becomes of a word to the server: "answered", "silence", or the name of the program's error."""
        self._do("word")
        assert self.process.stdout
        ends: list[Any] = [self.far, self.process.stdout]
        if self.far in select.select(ends, [], [], SOON)[0]:
            self.far.sendall(self.far.recv(100))
        return self.process.stdout.readline().strip()

    def listen(self) -> None:
        """Say nothing, and wait for the server."""
        self._do("")

    def heard(self, within: float) -> str:
        """What became of listening: the name of the program's error, or nothing yet."""
        assert self.process.stdout
        ready = select.select([self.process.stdout], [], [], within)[0]
        return self.process.stdout.readline().strip() if ready else ""

    def _do(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def program(
    rig: Rig,
    family: AddressFamily = AF_INET,
    keepalive: int | None = None,
    interpreter: str = sys.executable,
    at: str = "",
) -> Iterator[Program]:
    """A program that connects and then is quiet, until the end of the block.

    It connects to the server's address of this family, unless it is told `at` which. With `keepalive` it asks for
    that: after so many seconds, or (0) when the system does. The kernel names the process by the file of its
    interpreter.
    """
    with rig.server.inside(lambda: create_server((at or SERVER[family], 0), family=family)) as listener:
        listener.settimeout(SOON)
        host, port = listener.getsockname()[:2]
        command = (interpreter, "-S", TALKER, host, str(port), *([] if keepalive is None else [str(keepalive)]))
        with rig.client.running(*command) as process, listener.accept()[0] as far:
            assert next_line(process).strip() == "connected"  # and has asked for keepalive
            yield Program(process, far)


class Daemon:
    """A running tcp-keepalived, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str], home: Home) -> None:
        self._process = process
        self._home = home
        self._said: list[Entry] = []
        self._news = threading.Condition()
        self._listening = True
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def _listen(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._news:
                self._said.append(json.loads(line) if line.startswith("{") else {"MESSAGE": line})
                self._news.notify_all()
        with self._news:
            self._listening = False
            self._news.notify_all()

    def heard(self, *events: str, within: float = 0.0, **fields: object) -> list[Entry]:
        """All that it said of these events (names of message ids) with these fields, once there is any."""
        ids = {MESSAGE_IDS[event] for event in events}

        def matching() -> list[Entry]:
            return [e for e in self._said if e.get("MESSAGE_ID") in ids and fields.items() <= e.items()]

        with self._news:
            self._news.wait_for(lambda: matching() or not self._listening, within)
            return matching()

    def expect(self, event: str, within: float = SOON, **fields: object) -> Entry:
        """The first that it said of this event with these fields; fail without it."""
        found = self.heard(event, within=within, **fields)
        assert found, f"no {event} with {fields} within {within} s in {json.dumps(self._said, indent=1)}"
        return found[0]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def text(self) -> str:
        """All that it said, as it said it."""
        with self._news:
            return "\n".join(json.dumps(entry) for entry in self._said)

    def send(self, by: signal.Signals) -> None:
        """Send it this signal."""
        self._process.send_signal(by)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        status = self._process.wait(SOON)
        self._listener.join()
        return status

    def reload(self, configuration: str) -> None:
        """Let it go by this configuration."""
        self._home.configure(configuration)
        self._process.send_signal(signal.SIGHUP)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Stop it with this signal; it must end well."""
        self._process.send_signal(by)
        assert self._process.wait(SOON) == 0, self._said
        self._listener.join()

    def ended(self) -> None:
        """Wait until it has ended by itself; it must end well."""
        assert self._process.wait(SOON) == 0, self._said
        self._listener.join()

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._listener.join()


class Home:
    """A directory with the daemon's configuration and its state."""

    def __init__(self, directory: Path, configuration: str) -> None:
        directory.mkdir(exist_ok=True)
        self.file = directory / "config.toml"
        self.state = directory / "state"
        self.configure(configuration)

    def configure(self, configuration: str) -> None:
        """Write the configuration."""
        self.file.write_text(configuration, encoding="utf-8")

    @property
    def command(self) -> tuple[str, ...]:
        """What starts the daemon here."""
        return (*DAEMON, *self.options)

    @property
    def options(self) -> tuple[str, ...]:
        """With which it is started."""
        return (f"--config={self.file}", f"--state-dir={self.state}", "--log-format=json")

    def restore(self, namespace: Namespace) -> str:
        """Have keepalivectl restore what a daemon left, and return what it prints."""
        done = namespace.run(*CTL, "restore", f"--state-dir={self.state}")
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    @contextlib.contextmanager
    def daemon(self, namespace: Namespace, *options: str, through: tuple[str, ...] = ()) -> Iterator[Daemon]:
        """The daemon, running and ready, until the end of the block; `through` a command that runs it."""
        with self.starting(namespace, *options, through=through) as daemon:
            daemon.expect("started")
            yield daemon

    @contextlib.contextmanager
    def starting(self, namespace: Namespace, *options: str, through: tuple[str, ...] = ()) -> Iterator[Daemon]:
        """The same, but not ready yet."""
        with namespace.running(*through, *self.command, *options) as process:
            daemon = Daemon(process, self)
            try:
                yield daemon
            finally:
                daemon.kill()


def sockets(namespace: Namespace, home: Home) -> list[dict[str, Any]]:
    """What `keepalivectl sockets --json --all` lists there."""
    done = namespace.run(*CTL, "sockets", "--json", "--all", f"--config={home.file}")
    said = [line for line in done.stderr.splitlines() if not OF_OTHERS.match(line)]
    assert (done.returncode, said) == (0, []), done.stderr
    listed: list[dict[str, Any]] = json.loads(done.stdout)["connections"]
    return listed
