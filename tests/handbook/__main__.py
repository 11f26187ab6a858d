"""Run the programs over a firewall that forgets after five minutes, and write what they print into the handbook.

usage: python -m tests.handbook
A document shows a screen between <!-- screen: NAME --> and <!-- end -->. What is printed is written as it stands,
except that the configuration, which is in a directory of its own here, is shown where it usually is.
"""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, create_server, socket

from keepaliveD.log.journal import LABELS
from keepaliveD.places import DEFAULT_FILE
from keepaliveD.places import UNIT as DAEMONS_UNIT
from keepaliveD.platforms.linux.bpf.connect import cgroup_root
from tests.handbook.documents import DOCUMENTS, ROOT
from tests.support.patience import SOON
from tests.support.processes import CTL, TALKER, Entry, Home, Program, next_line
from tests.support.rig import SERVER, Rig

sys.path.insert(0, str(ROOT / "packaging/handbook"))
from parts import filled

TIMEOUT = 300  # seconds
CONFIGURATION = f"""
[watch]
namespaces = "own"

[[path]]
name = "office firewall"
networks = ["10.99.0.0/16"]
timeout = "{TIMEOUT}s"
"""
UNIT = "amanda@backup.service"
PROGRAMS = (  # unit, process, port, whether it asks for keepalive
    (UNIT, "amandad", 10080, False),
    ("ssh.service", "sshd", 22, True),
    ("postgresql@17-main.service", "postgres", 5432, True),
)
# joins a cgroup, takes a name, and becomes the program
PLAYED = """
import ctypes, runpy, sys
with open(sys.argv[1], "w") as procs:
    procs.write("0")
ctypes.CDLL(None).prctl(15, sys.argv[2].encode())
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@contextlib.contextmanager
def cgroup(unit: str) -> Iterator[Path]:
    """A cgroup as systemd makes it for a service."""
    slice_ = cgroup_root(Path("/")) / "system.slice"
    made = not slice_.exists()
    slice_.mkdir(exist_ok=True)
    own = slice_ / unit
    own.mkdir()
    try:
        yield own
    finally:
        end = time.monotonic() + SOON
        while (own / "cgroup.procs").read_text(encoding="ascii") and time.monotonic() < end:
            time.sleep(0.1)
        own.rmdir()
        if made:
            with contextlib.suppress(OSError):  # another program has made a cgroup in it meanwhile
                slice_.rmdir()


@contextlib.contextmanager
def played(rig: Rig, unit: str, name: str, port: int, *, keepalive: bool) -> Iterator[Program]:
    """A program of a service, with a connection to the server."""
    address = SERVER[AF_INET]
    with contextlib.ExitStack() as stack:
        listener: socket = stack.enter_context(rig.server.inside(lambda: create_server((address, port))))
        listener.settimeout(SOON)
        procs = str(stack.enter_context(cgroup(unit)) / "cgroup.procs")
        asks = ("0",) if keepalive else ()
        command = (sys.executable, "-S", "-c", PLAYED, procs, name, TALKER, address, str(port), *asks)
        process = stack.enter_context(rig.client.running(*command))
        far = stack.enter_context(listener.accept()[0])
        assert next_line(process).strip() == "connected"
        yield Program(process, far)


def screens() -> dict[str, str]:
    """What the programs print: of the daemon's log, of `status` and of `why`."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = Home(directory, CONFIGURATION)
        rig = stack.enter_context(Rig(timeout=TIMEOUT))
        procs = stack.enter_context(cgroup(DAEMONS_UNIT)) / "cgroup.procs"
        join = f'echo 0 > {procs} && exec env RUNTIME_DIRECTORY={directory} "$0" "$@"'
        daemon = stack.enter_context(home.daemon(rig.client, through=("sh", "-c", join)))
        programs = [
            stack.enter_context(played(rig, unit, name, port, keepalive=keepalive))
            for unit, name, port, keepalive in PROGRAMS
        ]
        assert {each.speak() for each in programs} == {"answered"}

        def asked(*words: str) -> str:
            options = (f"--state-dir={home.state}",)  # the daemon is asked, as by a reader
            done = rig.client.run("env", f"RUNTIME_DIRECTORY={directory}", *CTL, *words, *options)
            assert done.returncode == 0, done.stderr
            return f"$ keepalivectl {' '.join(words)}\n{done.stdout}"

        print(f"waiting for the firewall: {TIMEOUT} s", flush=True)
        warning = daemon.expect("bare", within=TIMEOUT)
        status, why = asked("status"), asked("why", UNIT.removesuffix(".service"))
        fixed = asked("why", UNIT.removesuffix(".service"), "--fix", "--yes")
        armed = daemon.expect("armed")
        time.sleep(TIMEOUT - warning["KEEPALIVE_IDLE_SEC"] + 5)
        assert programs[0].speak() == "answered"  # the firewall has not forgotten it
        log = [*daemon.heard("applied", "started"), warning, armed]
        daemon.stop()
        shown = {"log": "".join(map(line, log)), "status": status, "why": why, "fixed": fixed}
        for named, usual in ((f" --config {home.file}", ""), (f" check {home.file}", " check")):
            shown = {name: text.replace(named, usual) for name, text in shown.items()}
        return {name: text.replace(str(directory), str(DEFAULT_FILE.parent)) for name, text in shown.items()}


def line(entry: Entry) -> str:
    """An entry as text."""
    when = datetime.datetime.fromtimestamp(entry["timestamp"], datetime.UTC)
    return f"{when:%H:%M:%S} {LABELS.get(entry['PRIORITY'], '')}{entry['MESSAGE']}\n"


def main() -> None:
    """Write the screens into every document that shows one."""
    kernel = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    parts = {name: f"```\n{text.rstrip()}\n```\n" for name, text in screens().items()}
    for file in DOCUMENTS:
        before = file.read_text(encoding="utf-8")
        if (after := filled(before, "screen", parts)) != before:
            file.write_text(after, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}: {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, Linux {kernel}")


if __name__ == "__main__":
    main()
