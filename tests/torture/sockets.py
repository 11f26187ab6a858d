"""kill -9 while sockets of programs are armed: they stay armed, and are disarmed exactly, whoever set them since."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, socket
from subprocess import Popen

from keepaliveD.platforms.linux.arming.pidfd import SO_COOKIE
from tests.support.loopback import Host, Settings, forgetful, settings
from tests.support.processes import CTL, ENABLE, REARM, SCAN, TUNED, Home
from tests.support.rig import INTERVAL, PROBES, TIME
from tests.torture.kills import await_ready, fresh, kill
from tests.torture.kind import Cases, Counts, Failure, Kind
from tests.torture.pauses import stopped
from tests.torture.program import whole_output

ENGINES = ("netlink", "bpf")
ROUNDS = 100  # with each engine
SHORT = 5
LIFE = 0.6  # seconds in which the daemon arms what there is, and a little more
ARMING = 0.01  # seconds that recording and setting take
OPTIONS = {
    "on": (SOL_SOCKET, SO_KEEPALIVE),
    "idle": (IPPROTO_TCP, TCP_KEEPIDLE),
    "interval": (IPPROTO_TCP, TCP_KEEPINTVL),
    "probes": (IPPROTO_TCP, TCP_KEEPCNT),
}
TIMES = ("idle", "interval", "probes")
Choice = dict[str, int]  # options that a program set


def set_options(sock: socket, choice: Choice) -> None:
    """As its program does."""
    for option, value in choice.items():
        sock.setsockopt(*OPTIONS[option], value)


def with_options(system: Settings, choice: Choice) -> Settings:
    """What stands in a socket where its program set these, and the rest is the system's."""
    every = {**system._asdict(), **choice}
    return Settings(bool(every["on"]), every["idle"], every["interval"], every["probes"])


@dataclass
class Client:
    """A program's socket: what it chose before it was recorded as armed, and what it set since.

    `hidden` of that is what changed nothing: it was just what the daemon had set. `presumed` are the times that
    equalled the system's when somebody armed the socket who cannot tell whose they are.
    """

    sock: socket
    chosen: Choice
    since: Choice = field(default_factory=dict)
    hidden: Choice = field(default_factory=dict)
    presumed: set[str] = field(default_factory=set)

    def set(self, choice: Choice, home: Home) -> None:
        """As its program does, while the daemon stands still."""
        before = settings(self.sock)
        set_options(self.sock, choice)
        if not recorded(self.sock, home):
            self.chosen |= choice
        elif settings(self.sock) == before:
            self.hidden |= choice
        else:
            self.since |= choice

    def presume(self, system: Settings) -> None:
        """Take for the system's what equals it."""
        self.presumed |= {time for time in TIMES if self.chosen.get(time) == getattr(system, time)}

    def examine(self, system: Settings, said: Sequence[str] = ()) -> None:
        """Once all is put back there stands what its program set, and else what the system says.

        A program that set something after it was armed is left with all that stands there.
        What nobody can tell, the kernel least of all, may stand as if it had not been set.
        """
        stands = settings(self.sock)
        if not any(self._is(stands, system, chosen) for chosen in (self.chosen, self.chosen | self.hidden)):
            port = self.sock.getsockname()[1] if said else 0
            raise Failure(f"{stands} stands at port {port}; the system says {system}; {self}; {' '.join(said)}")

    def _is(self, stands: Settings, system: Settings, chosen: Choice) -> bool:
        """Whether this stands without us, where its program chose that."""
        without_us = with_options(system, chosen | self.since)
        options = self.since or OPTIONS
        wrong = [each for each in options if getattr(stands, each) != getattr(without_us, each)]
        return all(each in self.presumed and getattr(stands, each) == getattr(system, each) for each in wrong)

    def __str__(self) -> str:
        return f"chosen {self.chosen}, since then {self.since}, hidden {self.hidden}, presumed {self.presumed}"


def recorded(sock: socket, home: Home) -> bool:
    """Whether the daemon has written down that it arms this one."""
    cookie = int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
    with contextlib.suppress(FileNotFoundError):
        return f"\n{cookie} " in (home.state / "armed").read_text(encoding="ascii")
    return False


def one_round(seed: str, directory: Path) -> Counts:
    """One machine's life; the seed is an engine and a number."""
    engine, dice = seed.split("-", maxsplit=1)[0], random.Random(seed)
    counts: Counts = Counter()
    with Host(directory) as host:
        found = {key: fresh(key, dice, set()) for key in (TIME, INTERVAL, PROBES)}
        host.namespace.keepalive = found
        clients = [Client(host.connection(), choice(dice)) for _ in range(dice.randint(1, 5))]
        for client in clients:
            set_options(client.sock, client.chosen)
        home = Home(directory, "")
        home.state.mkdir(mode=0o700)  # as a service manager does, before the first instruction
        for _ in range(dice.randint(1, 2)):
            home.configure(arming(engine, dice))
            killed(host, home, clients, dice, counts)
            if engine == "netlink":
                presume(clients, host.namespace.keepalive)
        end = dice.choice(ENDS)
        if engine == "netlink" and stop_disarming in end:
            presume(clients, TUNED)  # that daemon arms, too
        said = [f"{step.__name__}: {step(host, home, engine)}" for step in end]
        if host.namespace.keepalive != found:
            raise Failure(f"{host.namespace.keepalive} stands instead of {found}")
        for client in clients:
            client.examine(Settings(False, found[TIME], found[INTERVAL], found[PROBES]), said)
            counts["not to be told apart"] += bool(client.hidden or client.presumed)
    return counts


def presume(clients: Iterable[Client], system: Mapping[str, int]) -> None:
    """They may have been armed in a namespace with these, by an engine that tells values only."""
    for client in clients:
        client.presume(Settings(False, system[TIME], system[INTERVAL], system[PROBES]))


def choice(dice: random.Random) -> Choice:
    """What programs set: mostly nothing or keepalive alone, sometimes all."""
    values = {
        "on": dice.randint(0, 1),
        "idle": dice.choice((2, 100, 7200, 30_000)),
        "interval": dice.choice((1, 20, 75, 3000)),
        "probes": dice.choice((2, 5, 9, 100)),
    }
    usual = ((), (), ("on",), ("on",), ("idle",), ("on", "idle"), tuple(OPTIONS))
    return {option: values[option] for option in dice.choice((*usual, dice.sample(list(OPTIONS), 2)))}


def arming(engine: str, dice: random.Random) -> str:
    """A configuration that arms."""
    rule, timeout = dice.choice((ENABLE, ENABLE, REARM)), dice.choice((5, 30, 200))
    return forgetful(rule, timeout, apply=dice.random() < 0.5).replace('"netlink"', f'"{engine}"')


def killed(host: Host, home: Home, clients: list[Client], dice: random.Random, counts: Counts) -> None:
    """A daemon that is killed at some moment; programs may set something before."""
    with host.namespace.running(*home.command) as daemon:
        dice.choice((anywhere, while_it_arms, while_it_rescans))(home, daemon, dice)
        if dice.random() < 0.3:
            client, since = dice.choice(clients), choice(dice)
            with stopped(daemon.pid):
                client.set(since, home)
            counts["set by its program"] += bool(since)
            time.sleep(dice.uniform(0, 2 * SCAN))
        kill(daemon, counts)
    stands = [settings(client.sock) for client in clients]
    counts["armed when killed"] += sum(each.on for each in stands)


def anywhere(_home: Home, _daemon: Popen[str], dice: random.Random) -> None:
    """From its first instruction to its first scans."""
    time.sleep(dice.uniform(0, LIFE))


def while_it_arms(home: Home, _daemon: Popen[str], dice: random.Random) -> None:
    """From the record on, if there is something to arm."""
    before, deadline = version(home), time.monotonic() + LIFE
    while version(home) == before and time.monotonic() < deadline:
        time.sleep(0.0001)
    time.sleep(dice.uniform(0, ARMING))


def while_it_rescans(_home: Home, daemon: Popen[str], dice: random.Random) -> None:
    """When all is armed."""
    await_ready(daemon)
    time.sleep(dice.uniform(0, 2 * SCAN))


def version(home: Home) -> int:
    """How long the record of armed sockets is."""
    with contextlib.suppress(FileNotFoundError):
        return (home.state / "armed").stat().st_size
    return 0


# ends


def disarm(host: Host, home: Home, _engine: str) -> str:
    """By keepalivectl; what it said."""
    return _run(host, "disarm", home)


def restore(host: Host, home: Home, _engine: str) -> str:
    """By keepalivectl; what it said."""
    return _run(host, "restore", home)


def stop_disarming(host: Host, home: Home, engine: str) -> str:
    """By a daemon that puts back everything when it stops; what it said then."""
    configuration = forgetful("", apply=True).replace('"netlink"', f'"{engine}"')
    home.configure(configuration.replace("apply = true", "disarm_on_stop = true"))
    with host.namespace.running(*home.command) as daemon:
        await_ready(daemon)
        daemon.send_signal(signal.SIGTERM)
        said = whole_output(daemon)
    if daemon.returncode or "Traceback" in said:
        raise Failure(f"the last daemon ended with {daemon.returncode}: {said[-300:].strip()}")
    return said


ENDS: tuple[tuple[Callable[[Host, Home, str], str], ...], ...] = (
    (disarm, restore),
    (restore, disarm),
    (stop_disarming,),
)


def _run(host: Host, command: str, home: Home) -> str:
    done = host.namespace.run(*CTL, command, f"--state-dir={home.state}")
    if done.returncode or done.stderr:
        raise Failure(f"{command} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def seeds(rounds: int) -> Iterator[str]:
    """The same number with each engine."""
    for number in range(rounds):
        for engine in ENGINES:
            yield f"{engine}-{number}"


CASES = Cases(lambda: seeds(ROUNDS), lambda: seeds(SHORT), one_round)
KIND = Kind(
    "sockets",
    "armed sockets stay armed, and are disarmed to what their programs set",
    lambda: contextlib.nullcontext(CASES),
    at_once=3,
)
