"""Whatever happens to the daemon, it goes on or it ends, soon and with the settings restored."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD.cli.asking.asking import ask
from keepaliveD.daemon.worker.apart import PATIENCE
from keepaliveD.model.errors import Exit
from tests.support.patience import SOON, ending
from tests.support.processes import CTL, DAEMON, SCAN, TUNED, Home, configuration
from tests.support.rig import DIE_WITH_US, UNTUNED, Namespace

AT_ONCE = 2.0  # seconds in which a daemon that is told to end must have ended, whatever it waits for
BROKEN = """
import sys
sys.argv[0] = "tcp-keepalived"
from keepaliveD import __main__
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
look, looks = SocketWatcher.scan, []
def scan(self, now):
    looks.append(now)
    if len(looks) in {scans}:
        raise {error}
    return look(self, now)
SocketWatcher.scan = scan
{more}
sys.exit(__main__.main())
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """With a short interval."""
    return Home(tmp_path, configuration())


def until(seen: Callable[[], object], within: float = SOON) -> None:
    """Return once it is so; fail if that takes longer."""
    end = time.monotonic() + within
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("seconds", [SCAN / 2, 4 * SCAN])
def test_a_pause_of_any_length_is_survived(home: Home, seconds: float) -> None:
    """A stopped process, a frozen cgroup, a laptop's lid."""
    with Namespace() as host, host.running(*home.command) as process:
        until(lambda: host.keepalive == TUNED)
        for _ in range(4):
            time.sleep(SCAN / 2)  # it waits for its next scan
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)
        time.sleep(2 * SCAN)
        assert process.poll() is None
        assert host.keepalive == TUNED
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
        assert host.keepalive == UNTUNED
        _, said = process.communicate()
        assert "drift" not in said


def test_no_signal_but_kill_leaves_the_settings_changed(home: Home) -> None:
    """Those that mean nothing to it change nothing; Ctrl-\\ is a stop."""
    with Namespace() as host, host.running(*home.command) as process:
        until(lambda: host.keepalive == TUNED)
        for meaningless in ("USR1", "USR2", "ALRM", "IO", "PROF", "RTMIN", "RTMAX"):
            process.send_signal(signal.Signals[f"SIG{meaningless}"])
        process.send_signal(signal.SIGQUIT)
        assert process.wait(SOON) == 0
        assert host.keepalive == UNTUNED


def test_signals_that_its_starter_has_blocked_end_it_all_the_same(home: Home) -> None:
    """A supervisor, or a thread of one, passes its mask on."""
    blocked = ("env", "--block-signal=TERM", "--block-signal=HUP")
    with Namespace() as host, host.running(*blocked, *home.command) as process:
        until(lambda: host.keepalive == TUNED)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
        assert host.keepalive == UNTUNED


def test_a_single_scan_that_cannot_be_shown_is_a_failure_and_leaves_no_setting(home: Home) -> None:
    with Namespace() as host, open("/dev/full", "w", encoding="ascii") as full:
        done = host.inside(
            lambda: subprocess.run(
                [*home.command, "--once"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=SOON, check=False
            )
        )
        assert done.returncode == 74
        assert "standard output: cannot be written: No space left on device" in done.stderr
        assert host.keepalive == UNTUNED


def test_a_log_that_nobody_reads_does_not_make_it_deaf(home: Home) -> None:
    """Neither before the signal nor after it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    with Namespace() as host:
        command = [*DIE_WITH_US, "nsenter", f"--target={host.pid}", "--net", "--", *home.command]
        with subprocess.Popen(command, stderr=write) as process:
            until(lambda: host.keepalive == TUNED)
            ends_at_once(process)
        assert host.keepalive == UNTUNED
    os.close(read)
    os.close(write)


def test_a_service_manager_that_does_not_read_does_not_make_it_deaf(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket's queue is full."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, Namespace() as host:
        manager.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while other.sendto(b"STATUS=full", address):
                    pass
        with host.running(*home.command) as process:
            until(lambda: host.keepalive == TUNED)
            time.sleep(3 * SCAN)
            ends_at_once(process)
        assert host.keepalive == UNTUNED


@pytest.mark.parametrize("microseconds", ["1", "-1"])
def test_a_watchdog_that_nobody_could_satisfy_does_not_keep_it_from_its_work(
    home: Home, monkeypatch: pytest.MonkeyPatch, microseconds: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    with Namespace() as host, host.running(*home.command) as process:
        until(lambda: host.keepalive == TUNED)
        ends_at_once(process)
        assert host.keepalive == UNTUNED


def ends_at_once(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Tell it to end; it must, well and soon."""
    process.send_signal(signal.SIGTERM)
    taken, hindered = ending(process.pid)
    assert taken - hindered < AT_ONCE
    assert process.wait() == 0


def broken(home: Home, error: str, scans: str = "{2}", more: str = "") -> tuple[str, ...]:
    """What starts a daemon in which these scans fail with this error."""
    script = BROKEN.replace("{scans}", scans).replace("{error}", error).replace("{more}", more)
    return (sys.executable, "-c", script, *home.command[len(DAEMON) :])


ERRORS = [
    "OSError(24, 'Too many open files')",
    'RuntimeError("can\'t start new thread")',
    "MemoryError()",
    "RecursionError('maximum recursion depth exceeded')",
    "OverflowError('timestamp too large')",
    "PermissionError(1, 'Operation not permitted')",
    "KeyError(5)",
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_scan_that_fails_in_a_way_that_nobody_foresaw_is_one_failed_scan(home: Home, error: str) -> None:
    """It is reported once, and the next scan is as good as any."""
    with Namespace() as host, host.running(*broken(home, error)) as process:
        assert process.stderr
        said = ""
        while "being watched again" not in said:
            said += (line := process.stderr.readline())
            assert line, said
        ends_at_once(process)
        said += process.stderr.read()
        assert said.count("scan failed") == 1
        assert "Traceback" not in said
        assert host.keepalive == UNTUNED


@pytest.mark.parametrize("error", [*ERRORS, "KeyboardInterrupt()", "SystemExit(3)"])
def test_whatever_ends_the_daemon_the_settings_are_restored_and_the_reason_is_one_line(home: Home, error: str) -> None:
    """Here the wait for the next scan fails, which nothing survives."""
    more = f"from keepaliveD.daemon.loop import Loop\ndef run(_): raise {error}\nLoop.run = run"
    with Namespace() as host:
        done = host.run(*broken(home, error, scans="()", more=more))
        assert host.keepalive == UNTUNED
    assert "Traceback" not in done.stderr
    assert done.returncode in {Exit.OSERR, Exit.SOFTWARE, 130, 3}
    assert [line for line in done.stderr.splitlines() if not line.startswith("{")][1:] == []


def test_a_daemon_that_cannot_start_restores_what_a_killed_one_left(home: Home) -> None:
    """Its configuration is broken now, as after an upgrade; nobody else is left to do it."""
    with Namespace() as host:
        with host.running(*home.command) as process:
            until(lambda: host.keepalive == TUNED)
            process.kill()
        assert host.keepalive == TUNED
        home.configure("[keepalive")
        done = host.run(*home.command)
        assert done.returncode == Exit.CONFIG
        assert host.keepalive == UNTUNED


HANGING = """
import time
from pathlib import Path
from keepaliveD.daemon import process
load = process.load
def hang(file):
    if Path({signal!r}).exists():
        Path({signal!r}).unlink()
        time.sleep(1000)
    return load(file)
process.load = hang
"""


@pytest.fixture
def hang(tmp_path: Path) -> Path:
    """Once this file is there, the configuration hangs for whoever reads it next; then the file is gone."""
    return tmp_path / "hang"


@pytest.fixture
def hanging(home: Home, hang: Path) -> tuple[str, ...]:
    """What starts a daemon whose configuration may hang, as on a file server that does not answer."""
    return broken(home, "OSError()", scans="()", more=HANGING.format(signal=str(hang)))


def test_a_configuration_that_hangs_at_the_start_does_not_make_it_deaf(hang: Path, hanging: tuple[str, ...]) -> None:
    hang.touch()
    with Namespace() as host, host.running(*hanging) as process:
        until(lambda: not hang.exists())
        ends_at_once(process)
        assert host.keepalive == UNTUNED


LONGEST_START = 8 * int(PATIENCE)  # seconds in place of 300, for the sake of the test
BUSY = """
import psutil
from pathlib import Path
from keepaliveD.daemon import process
load, first, clock, instant = process.load, process.Process.load_first, process.now, [process.now()]
read_at = instant[0] + {seconds}
def slow(file):
    while not Path({signal!r}).exists():
        pass
    return load(file)
def worked(reader):
    return sum(reader.cpu_times()[:2])
def busy():
    for reader in psutil.Process().children():
        before = worked(reader)
        while worked(reader) == before and reader.status() != psutil.STATUS_ZOMBIE:
            pass
        instant[0] += 1
    if instant[0] > read_at:
        Path({signal!r}).touch()
    return instant[0]
def load_first(self):
    process.now = busy
    try:
        return first(self)
    finally:
        process.now = clock
process.load, process.Process.load_first, process.TICK = slow, load_first, 0.01
"""


def busy(home: Home, seconds: int) -> tuple[str, ...]:
    """What starts a daemon on a machine so busy that it takes so many seconds to read the configuration.

    Its clock goes on by a second whenever the process that reads has had the processor for a moment.
    """
    more = BUSY.format(signal=str(home.file.parent / "read"), seconds=seconds)
    return broken(home, "OSError()", scans="()", more=f"{more}\nprocess.LONGEST_START = {LONGEST_START}")


def test_a_machine_that_is_busy_at_the_start_is_waited_for_as_the_service_manager_is_told(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a host boots: what reads the configuration is slow, and does not hang."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, Namespace() as host:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SOON)
        with host.running(*busy(home, 6 * int(PATIENCE))) as process:
            assert manager.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")
            until(lambda: host.keepalive == TUNED)
            ends_at_once(process)
        assert host.keepalive == UNTUNED


def test_a_configuration_that_is_never_read_is_not_waited_for_for_ever(home: Home) -> None:
    """The host's network comes up after this daemon."""
    with Namespace() as host:
        done = host.run(*busy(home, 100 * int(PATIENCE)))
    assert done.returncode == Exit.OSERR
    assert "the configuration cannot be read: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_that_hangs_at_a_reload_does_not_make_it_deaf(hang: Path, hanging: tuple[str, ...]) -> None:
    """The reload is given up at once."""
    with Namespace() as host, host.running(*hanging) as process:
        until(lambda: host.keepalive == TUNED)
        hang.touch()
        process.send_signal(signal.SIGHUP)
        until(lambda: not hang.exists())
        ends_at_once(process)
        _, said = process.communicate()
        assert "reload failed" not in said
        assert host.keepalive == UNTUNED


def test_a_daemon_answers_while_its_configuration_hangs(
    hang: Path, hanging: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks how it is does not wait for a file server."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with Namespace() as host, host.running(*hanging) as process:

        def answers_meanwhile() -> bool:
            hang.touch()
            process.send_signal(signal.SIGHUP)
            until(lambda: not hang.exists())
            begin = time.monotonic()
            assert ask(tmp_path / "control", "Status", patience=SOON)["scan"]
            return time.monotonic() - begin < PATIENCE / 2

        until(lambda: host.keepalive == TUNED)
        assert any(answers_meanwhile() for _ in range(3)), "a machine does not stand still so often"
        done = host.run(*CTL, "status")
        assert (done.returncode, "last scan" in done.stdout) == (0, True), done
        process.send_signal(signal.SIGTERM)
        process.wait(SOON)


def test_more_namespaces_than_descriptors_are_no_failure(home: Home) -> None:
    """The soft limit of 1,024 is raised; what is beyond the hard one is left out and reported."""
    home.configure(configuration(namespaces="all"))
    limited = ("prlimit", "--nofile=64:64")
    with Namespace() as host:
        others = [Namespace() for _ in range(60)]
        try:
            with home.daemon(host, through=limited) as daemon:
                assert host.keepalive == TUNED
                assert daemon.heard("unwatched", within=SOON)
                daemon.stop()
                assert not daemon.heard("scan-failed")
        finally:
            for other in others:
                other.__exit__()
        assert host.keepalive == UNTUNED
