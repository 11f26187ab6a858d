"""Each record cut at every byte and with each bit flipped: nothing wrong is written, and no damage passes unnoticed.

The records are those that a real daemon left when it was killed. Every damage is tried by the same code in this
process, over a root directory of the torture's own; every few also by the real programs, in the network namespace and
with the sockets that the records are about.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from keepaliveD.cli import ctl
from keepaliveD.model.errors import Exit
from keepaliveD.records.arming import ArmingRecord
from tests.support.loopback import Host, Settings, forgetful, settings
from tests.support.processes import CTL, ENABLE, Home
from tests.support.rig import INTERVAL, PROBES, TIME
from tests.torture.kills import await_ready
from tests.torture.kind import Cases, Counts, Failure, Kind, directory
from tests.torture.program import ended_well, whole_output
from tests.torture.sockets import OPTIONS, Choice, set_options, with_options

FOUND = {TIME: 7201, INTERVAL: 73, PROBES: 11}
CHOSEN: tuple[Choice, ...] = ({}, {"on": 1, "idle": 1001}, {"interval": 101, "probes": 6})  # by the programs
SAMPLE = 61  # one damage of so many is tried with the real programs; prime, so that it meets every bit of a byte
SHORTLY = 11  # the test suite tries one of so many of these and those
NO_RECORD = "lock"


class Left:
    """What a killed daemon left: its records, the sysctls, and the sockets that it armed."""

    def __init__(self, place: Path, host: Host) -> None:
        self.host = host
        host.namespace.keepalive = FOUND
        self.sockets = [host.connection() for _ in CHOSEN]
        for sock, chosen in zip(self.sockets, CHOSEN, strict=True):
            set_options(sock, chosen)
        with host.daemon(forgetful(ENABLE, apply=True)) as daemon:
            daemon.kill()
        self.records = place / "state"
        self.ours = host.namespace.keepalive
        self.armed = [settings(sock) for sock in self.sockets]
        assert all(stands.on for stands in self.armed)
        self.boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")

    @property
    def files(self) -> list[str]:
        """The records, by name."""
        return sorted(file.name for file in self.records.iterdir() if file.name != NO_RECORD)

    def octets(self, file: str) -> bytes:
        """What is in one."""
        return (self.records / file).read_bytes()

    def copy(self, place: Path, file: str, octets: bytes) -> Path:
        """All of them in a new state directory, one with other octets."""
        state = place / "state"
        shutil.copytree(self.records, state)
        (state / file).write_bytes(octets)
        return state

    def again(self) -> None:
        """As it was when the daemon was killed."""
        self.host.namespace.keepalive = self.ours
        for sock, armed in zip(self.sockets, self.armed, strict=True):
            set_options(sock, armed._asdict())


@contextlib.contextmanager
def begin() -> Iterator[Cases]:
    """A daemon arms, and is killed."""
    with directory() as name, Host(Path(name)) as host:
        left = Left(Path(name), host)
        yield Cases(
            lambda: seeds(left, 1, SAMPLE),
            lambda: seeds(left, SHORTLY, SHORTLY * SAMPLE),
            lambda seed, place: run(left, seed, place),
        )


# damages


def damaged(octets: bytes, damage: str) -> bytes:
    """The same, cut at a byte ("cut-17") or with one bit flipped ("bit-136")."""
    what, place = damage.split("-")
    number = int(place)
    if what == "cut":
        return octets[:number]
    return octets[: number // 8] + bytes([octets[number // 8] ^ 1 << number % 8]) + octets[number // 8 + 1 :]


def damages(octets: bytes) -> Iterator[str]:
    """All that there are of these kinds."""
    yield from (f"cut-{place}" for place in range(len(octets)))
    yield from (f"bit-{place}" for place in range(8 * len(octets)))


def seeds(left: Left, by_code: int, by_program: int) -> Iterator[str]:
    """FILE:DAMAGE:HOW for each damage of so many, and of so many."""
    for file in left.files:
        for number, damage in enumerate(damages(left.octets(file))):
            if number % by_code == 0:
                yield f"{file}:{damage}:code"
            if number % by_program == 0:
                yield f"{file}:{damage}:{'restore' if is_settings(file) else 'disarm'}"
            if number % by_program == by_program // 2:
                yield f"{file}:{damage}:daemon"


def is_settings(file: str) -> bool:
    """Whether it is the record of the sysctls; the other is that of the sockets."""
    return not file.startswith("armed")


def run(left: Left, seed: str, place: Path) -> Counts:
    """One damage."""
    file, damage, how = seed.split(":")
    octets = damaged(left.octets(file), damage)
    state = left.copy(place, file, octets)
    match how:
        case "code" if is_settings(file):
            restore_by_code(left, state, octets)
        case "code":
            nothing_false(left, state)
        case "restore":
            restore(left, state, octets)
        case "disarm":
            disarm(left, state)
        case "daemon":
            start(left, state, octets if is_settings(file) else b"")
    return Counter({f"by {how}": 1})


# by the code alone


def restore_by_code(left: Left, state: Path, octets: bytes) -> None:
    """What `keepalivectl restore` does."""
    system = FakeSystem(state.with_name("root"), left)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = ctl.main(["restore", f"--state-dir={state}"], system.root)
    noticed(status, said.getvalue())
    nothing_wrong(left, system.keepalive)
    kept(state, octets)


class FakeSystem:
    """The files in /proc that Linux's settings need, with ours in them."""

    def __init__(self, root: Path, left: Left) -> None:
        self.root = root
        self._sysctls = root / "proc/sys/net/ipv4"
        self._sysctls.mkdir(parents=True)
        for key, value in left.ours.items():
            self._file(key).write_text(f"{value}\n", encoding="ascii")
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text(left.boot, encoding="ascii")
        for process in ("self", "thread-self"):
            (root / "proc" / process / "ns").mkdir(parents=True)
            (root / "proc" / process / "ns/net").symlink_to(f"net:[{left.host.namespace.inode}]")

    @property
    def keepalive(self) -> dict[str, int]:
        """What stands there."""
        return {key: int(self._file(key).read_text(encoding="ascii")) for key in FOUND}

    def _file(self, key: str) -> Path:
        return self._sysctls / key.rpartition(".")[2]


def nothing_false(left: Left, state: Path) -> None:
    """What the damaged record says of any socket, the whole one says, too."""
    true = ArmingRecord(left.records, left.boot.strip()).armed()
    for cookie, armed in ArmingRecord(state, left.boot.strip()).armed().items():
        if true.get(cookie) != armed:
            raise Failure(f"socket {cookie} would be given {armed.before}, which it never had")


# by the real programs


def restore(left: Left, state: Path, octets: bytes) -> None:
    """`keepalivectl restore`."""
    left.again()
    done = left.host.namespace.run(*CTL, "restore", f"--state-dir={state}")
    noticed(done.returncode, done.stdout + done.stderr)
    nothing_wrong(left, left.host.namespace.keepalive)
    kept(state, octets)


def disarm(left: Left, state: Path) -> None:
    """`keepalivectl disarm`: it may leave sockets as they are."""
    left.again()
    done = left.host.namespace.run(*CTL, "disarm", f"--state-dir={state}")
    ended_well(done.returncode, done.stdout + done.stderr)
    nothing_wrong_in_sockets(left)


def start(left: Left, state: Path, octets: bytes) -> None:
    """A daemon, which may refuse, or go on; then it is stopped."""
    left.again()
    home = Home(state.parent, forgetful(ENABLE, apply=True))
    with left.host.namespace.running(*home.command) as daemon:
        await_ready(daemon)
        daemon.send_signal(signal.SIGTERM)
        said = whole_output(daemon)
    ended_well(daemon.returncode, said)
    nothing_wrong(left, left.host.namespace.keepalive)
    nothing_wrong_in_sockets(left)
    if octets:
        kept(state, octets)


# what is expected


def noticed(status: int, said: str) -> None:
    """Told in one line, with a status that says so."""
    ended_well(status, said)
    if status == Exit.OK or len(said.strip().splitlines()) != 1:
        raise Failure(f"ended with {status}: {said.strip()[-300:]}")


def nothing_wrong(left: Left, stands: Mapping[str, int]) -> None:
    """What was found, or ours: nothing else may have been written."""
    for key, value in stands.items():
        if value not in (FOUND[key], left.ours[key]):
            raise Failure(f"{key} was set to {value}: neither found ({FOUND[key]}) nor ours ({left.ours[key]})")


def nothing_wrong_in_sockets(left: Left) -> None:
    """What we armed, what the program chose, or what the system says: nothing else may have been set."""
    systems = [Settings(False, each[TIME], each[INTERVAL], each[PROBES]) for each in (FOUND, left.ours)]
    for sock, armed, chosen in zip(left.sockets, left.armed, CHOSEN, strict=True):
        stands = settings(sock)
        right = [armed, *(with_options(system, chosen) for system in systems)]
        for option in OPTIONS:
            if getattr(stands, option) not in {getattr(each, option) for each in right}:
                raise Failure(f"{stands}: {option} is of nobody; chosen were {chosen}, armed was {armed}")


def kept(state: Path, octets: bytes) -> None:
    """The damaged record is there, under whatever name."""
    if not any(file.read_bytes() == octets for file in state.rglob("*") if file.is_file()):
        raise Failure(f"the damaged record is gone; there are {sorted(os.listdir(state))}")


KIND = Kind("records", "damage is noticed, nothing wrong is written, the damaged record is kept", begin)
