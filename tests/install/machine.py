"""A machine: real systemd as PID 1 of namespaces of its own, and what can be seen and done in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from keepaliveD.log.entries import MESSAGE_IDS
from tests.support.patience import SOON

Seen = TypeVar("Seen")
Entry = dict[str, Any]  # one entry of the journal

BOOT = str(Path(__file__).with_name("boot.sh"))
BOOT_TIME = 5 * SOON  # seconds: it is work for many programs
NAMESPACES = ("mnt", "pid", "net", "uts", "ipc", "cgroup")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}

UNIT = "tcp-keepalived.service"
KEEPALIVE = {  # what /etc/tcp-keepalived/config.toml sets as it is shipped
    "net.ipv4.tcp_keepalive_time": 180,
    "net.ipv4.tcp_keepalive_intvl": 20,
    "net.ipv4.tcp_keepalive_probes": 31,
}
UNTUNED = {  # as the kernel makes a network namespace
    "net.ipv4.tcp_keepalive_time": 7200,
    "net.ipv4.tcp_keepalive_intvl": 75,
    "net.ipv4.tcp_keepalive_probes": 9,
}


class Machine:
    """Boots; ends with the block, or with whoever started it, and leaves nothing behind."""

    def __init__(self, suite: str, system: Path, layer: Path | None = None) -> None:
        self.suite = suite
        name = f"tcp-keepalived-test-{os.getpid()}-{time.monotonic_ns()}"
        self._boot = subprocess.Popen(
            [BOOT, "start", str(system), name, *([str(layer)] if layer else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt at the terminal is for the test, which ends this
        )
        try:
            assert self._boot.stdout
            self._unshare = int(self._boot.stdout.readline())
            self.init = self.until(self._systemd)
            self.until(lambda: self.says("running", "systemctl", "is-system-running"), BOOT_TIME)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._boot.communicate()

    def _systemd(self) -> int:
        """The process id of its PID 1, once that is systemd."""
        children = Path(f"/proc/{self._unshare}/task/{self._unshare}/children").read_text(encoding="ascii").split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text(encoding="ascii") != "systemd\n":
            return 0
        for name in NAMESPACES:  # what follows writes settings and kills: never out here
            assert os.readlink(f"/proc/{children[0]}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
        return int(children[0])

    def until(self, look: Callable[[], Seen], within: float = SOON) -> Seen:
        """What is seen, once it is anything; fail if that takes longer."""
        end, nap = time.monotonic() + within, 0.05
        while not (seen := look()):
            assert time.monotonic() < end, f"not within {within:g} s; the journal ends with:\n{self.journal_end()}"
            time.sleep(nap)
            nap = min(1.5 * nap, 0.5)  # to look takes processor time that what is waited for may want
        return seen

    def run(self, *command: str, check: bool = True, within: float = 600) -> subprocess.CompletedProcess[str]:
        """What came of a command in there."""
        done = subprocess.run(
            ["nsenter", f"--target={self.init}", "--all", "--", *command],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def says(self, word: str, *command: str) -> bool:
        """Whether a command prints this and nothing else."""
        return self.run(*command, check=False).stdout.strip() == word

    def path(self, inside: str) -> Path:
        """A file in there, as seen from out here."""
        return Path(f"/proc/{self.init}/root{inside}")

    def write(self, inside: str, text: str) -> None:
        """Make a file in there, and its directory."""
        file = self.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    # ------------------------------------------------------------- settings

    @property
    def keepalive(self) -> dict[str, int]:
        """The settings that stand in its network namespace."""
        values = self.run("sysctl", "--values", *UNTUNED).stdout.split()
        return dict(zip(UNTUNED, map(int, values), strict=True))

    # ------------------------------------------------------------- the unit

    def show(self, what: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", UNIT).stdout.strip()

    def systemctl(self, *verb: str) -> None:
        """Have it done to the unit."""
        self.run("systemctl", *verb, UNIT)

    def drop_in(self, text: str) -> None:
        """Change the unit by a drop-in, at once; an empty one changes nothing."""
        self.write(f"/run/systemd/system/{UNIT}.d/99-test.conf", text)
        self.run("systemctl", "daemon-reload")

    def main_process(self) -> int:
        """The daemon's process id in there, once it is active."""
        self.until(lambda: self.show("ActiveState") == "active")
        return int(self.show("MainPID"))

    # ------------------------------------------------------------- the journal

    def now(self) -> int:
        """When the journal's last entry was made, in microseconds; --after-cursor= skips one too many before 254."""
        return max((int(entry["__REALTIME_TIMESTAMP"]) for entry in self._read("--lines=1")), default=0)

    def _read(self, *options: str) -> list[Entry]:
        self.run("journalctl", "--sync")
        said = self.run("journalctl", "--quiet", "--output=json", "--all", *options).stdout
        return [json.loads(line) for line in said.splitlines()]

    def said(self, *matches: str, unit: str = UNIT, after: int = 0) -> list[Entry]:
        """All entries about a unit since then that match, as journalctl(1) matches."""
        found = self._read(f"--since=@{after // 1_000_000}", f"--unit={unit}", *matches)
        return [entry for entry in found if int(entry["__REALTIME_TIMESTAMP"]) > after]

    def entries(self, event: str, after: int = 0, **fields: object) -> list[Entry]:
        """The daemon's entries of this event with these fields since then."""
        matches = [f"MESSAGE_ID={MESSAGE_IDS[event]}", *(f"{name}={value}" for name, value in fields.items())]
        return self.said(*matches, after=after)

    def expect(self, event: str, after: int = 0, within: float = SOON, **fields: object) -> Entry:
        """The first of them, once there is one."""
        return self.until(lambda: self.entries(event, after, **fields), within)[0]

    def journal(self, after: int, unit: str = UNIT) -> str:
        """All that was said of a unit since then, for people."""
        return "\n".join(str(entry["MESSAGE"]) for entry in self.said(unit=unit, after=after))

    def journal_end(self) -> str:
        """Its last lines, to be shown with a failure."""
        return self.run("journalctl", "--quiet", "--no-pager", "--lines=30", check=False).stdout
