"""Signals are waited for, come one by one, and are told from what a pause leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keepaliveD.daemon.sources import HANDOVER, handing_over
from tests.support.patience import SOON

SCRIPT = """
import os, signal, time
from keepaliveD.daemon import signals
from keepaliveD.daemon.process import Process
signals.catch()
wait = Process(None, None, print).wait
print(wait(0.0), wait(0.05))
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGTERM)
print(sorted([str(wait(60.0)), str(wait(60.0))]))
start = time.monotonic()
print(wait(0.2), 0.2 <= time.monotonic() - start < 30)
print(wait(0.0))
"""
STORM = """
import os, signal, time
from pathlib import Path
from types import SimpleNamespace
from keepaliveD.daemon import signals
from keepaliveD.daemon.process import Process
from keepaliveD.daemon.worker.worker import Reply
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.rules import Watching
from keepaliveD.platforms.requests import Open
class Storm:
    def fileno(self):
        return -1
    def due(self):
        return FOREVER
    def events(self):
        os.kill(os.getpid(), signal.SIGHUP)
        return ()
def session(_):
    return SimpleNamespace(watcher=SimpleNamespace(engine_description="an engine"))
signals.catch()
with Process(Path("/missing"), session, print, [Storm()]) as process:
    for request in (process._reading, Open(Watching())):
        process.ask(request)
        end = time.monotonic() + float(input())
        while not isinstance(arrived := process.wait(60.0), Reply) and time.monotonic() < end:
            pass
        print(arrived.error or arrived.value if isinstance(arrived, Reply) else arrived)
"""
IMPATIENT = STORM.replace("[Storm()]", "[]").replace("60.0", "0.0")
OFTEN = """
import os, signal
from keepaliveD.daemon import signals
from keepaliveD.daemon.process import Process
signals.catch()
wait = Process(None, None, print).wait
for _ in range(1000):
    os.kill(os.getpid(), signal.SIGHUP)
print(wait(60.0), wait(0.0))
"""
ENDS = """
import os, signal
from keepaliveD.daemon import signals
from keepaliveD.daemon.process import Process
from keepaliveD.model.duration import FOREVER
class Ends:
    def fileno(self):
        return -1
    def due(self):
        return FOREVER
    def events(self):
        yield "a connection ended"
signals.catch()
wait = Process(None, None, print, [Ends()]).wait
os.kill(os.getpid(), signal.SIGTERM)
print(wait(60.0), wait(60.0), sep="\\n")
"""
PAUSED = """
from keepaliveD.daemon import signals
from keepaliveD.daemon.process import Process
signals.catch()
wait = Process(None, None, print).wait
for _ in range(int(input())):
    print("waiting", flush=True)
    print(wait(0.2), flush=True)
print(wait(60.0))
"""
ENDING = """
import ctypes, signal, threading
from keepaliveD.daemon import signals
signals.catch()
threading.Thread(target=threading.Event().wait, daemon=True).start()
libc = ctypes.CDLL(None)
libc.on_exit(libc.kill, ctypes.c_void_p(signal.SIGTERM))  # once the interpreter is no more: kill(0, SIGTERM)
signals.release()
"""
FULL = "/dev/full"
UNRAISABLE = """
import sys
from keepaliveD.daemon import signals
signals.catch()
hook, raised = sys.unraisablehook, []
class Fails:
    def __del__(self):
        1 / 0
def guarded(what):
    try:
        hook(what)
    except BaseException as error:
        raised.append(error)
sys.unraisablehook = guarded
Fails()
print(raised or "no error")
"""
UNLOADABLE = """
import signal, sys
sys.modules["keepaliveD.cli.daemon"] = None
from keepaliveD.__main__ import main
print(main(), signal.getsignal(signal.SIGTERM))
"""


@pytest.mark.parametrize("path", ["said", "/dev/full"])
def test_an_error_that_cannot_be_raised_is_one_line_or_none(tmp_path: Path, path: str) -> None:
    """Where standard error fails as well, the interpreter would print a traceback of both."""
    with (tmp_path / path).open("w+") as stderr:
        command = (sys.executable, "-c", UNRAISABLE)
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "no error\n")
    assert path == "/dev/full" or (tmp_path / path).read_text() == "ignored: ZeroDivisionError: division by zero\n"


def test_the_next_signal_comes_or_the_time_is_over() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["None None", "['Reload()', 'Stop(handing_over=False)']", "None True", "None"]


@pytest.mark.parametrize(("age", "counts"), [(1.0, True), (86400.0, False)])
def test_only_an_upgrade_that_goes_on_takes_the_settings_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, *, counts: bool
) -> None:
    """One that failed weeks ago may have left its file: a stop then restores the settings."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert not handing_over()
    (tmp_path / HANDOVER).touch()
    then = time.time() - age
    os.utime(tmp_path / HANDOVER, (then, then))
    assert handing_over() is counts


def test_a_signal_that_came_often_is_one() -> None:
    run = subprocess.run([sys.executable, "-c", OFTEN], capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr) == ("Reload() None\n", "")


def test_what_has_happened_by_then_comes_before_the_signal_to_stop() -> None:
    """Nothing comes after it."""
    run = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["a connection ended", "Stop(handing_over=False)"]


@pytest.mark.parametrize("script", [STORM, IMPATIENT], ids=["a storm of signals", "waits for no time"])
def test_an_answer_is_heard_among_signals_and_by_waits_for_no_time(script: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", script],
        input=f"{SOON}\n" * 2,
        capture_output=True,
        text=True,
        timeout=3 * SOON,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["/missing: cannot be read: No such file or directory", "an engine"]


def test_a_process_that_was_paused_beyond_its_wait_waits_on() -> None:
    """sigtimedwait(2), as CPython wraps it, answered with memory that nobody had written."""
    pauses = 5
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PAUSED], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{pauses}\n")
        process.stdin.flush()
        for _ in range(pauses):
            assert process.stdout.readline() == "waiting\n"
            await_state(process.pid, "S")
            process.send_signal(signal.SIGSTOP)
            await_state(process.pid, "T")
            time.sleep(0.3)  # longer than it wants to wait
            process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == "None\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (out, err) == ("Stop(handing_over=False)\n", "")


def test_a_signal_to_a_program_that_is_ending_does_not_change_its_status() -> None:
    """Not by way of a thread that is still there, either."""
    run = subprocess.run(
        [sys.executable, "-c", ENDING],
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_a_signal_does_not_change_the_status_of_a_program_that_cannot_be_loaded() -> None:
    run = subprocess.run([sys.executable, "-c", UNLOADABLE], capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout == f"69 {signal.SIG_IGN}\n", run


def await_state(pid: int, state: str) -> None:
    """Return once the kernel says that it sleeps (S), or is stopped (T)."""
    while Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != state:
        time.sleep(0.001)
