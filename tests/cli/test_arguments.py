"""Command lines: what they accept, and with which status they leave."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD import __version__
from keepaliveD.cli import arguments, ctl, daemon
from keepaliveD.model.errors import Exit, NotPermitted, Refusal
from tests.support.commands import COMMANDS

PROGRAMS = {"keepalivectl": ctl.main, "tcp-keepalived": daemon.main}


def left_with(main: Callable[[list[str]], int], *words: str) -> int:
    """The status with which argparse leaves."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("keepalivectl", []),
        ("keepalivectl", ["chekc"]),
        ("keepalivectl", ["check", "a", "b"]),
        ("keepalivectl", ["sockets", "--at-riks"]),
        ("keepalivectl", ["sockets", "--config"]),
        ("keepalivectl", ["why"]),
        ("keepalivectl", ["why", "a", "b"]),
        ("keepalivectl", ["restore", "now"]),
        ("keepalivectl", ["restore", "--state-dir", ""]),
        ("tcp-keepalived", ["--once", "--state-dir="]),
        ("tcp-keepalived", ["start"]),
        ("tcp-keepalived", ["--log-format", "xml"]),
        ("tcp-keepalived", ["--once=yes"]),
    ],
)
def test_a_command_line_that_is_wrong_is_one_line_and_status_64(
    program: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """sysexits.h, so that a script can tell a typing error from a failure; and where to read on."""
    assert left_with(PROGRAMS[program], *words) == 64
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(program)
    assert line.endswith(" --help")


MISTYPED = {
    "stauts": "keepalivectl: argument COMMAND: invalid choice: 'stauts'; did you mean status? See keepalivectl --help",
    "nosuch": "keepalivectl: argument COMMAND: invalid choice: 'nosuch'; see keepalivectl --help",
    "sockets --atrisk": "keepalivectl sockets: unrecognized arguments: --atrisk; did you mean --at-risk? "
    "See keepalivectl sockets --help",
    "sockets --prot=80": "keepalivectl sockets: unrecognized arguments: --prot=80; did you mean --port? "
    "See keepalivectl sockets --help",
    "deaths --unit a": "keepalivectl deaths: unrecognized arguments: --unit; see keepalivectl deaths --help",
    "check a b": "keepalivectl check: unrecognized arguments: b; see keepalivectl check --help",
    "presets cisco": "keepalivectl presets: argument PRESET: invalid choice: 'cisco'; did you mean cisco-asa or "
    "cisco-ios-nat? See keepalivectl presets, which lists all",
    "presets nosuch": "keepalivectl presets: argument PRESET: invalid choice: 'nosuch'; "
    "see keepalivectl presets, which lists all",
    "sockets --verdict x": "keepalivectl sockets: argument --verdict: invalid choice: 'x' (choose from 'unknown', "
    "'safe', 'late', 'bare', 'cut'); see keepalivectl sockets --help",
}


@pytest.mark.parametrize("words", MISTYPED)
def test_what_is_mistyped_is_answered_with_what_may_be_meant_and_the_help_of_the_command(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left_with(ctl.main, *words.split()) == 64
    assert capsys.readouterr().err.splitlines() == [MISTYPED[words]]


@pytest.mark.parametrize("words", ["sockets --port=", "sockets --", "why --fix --", "no-such-", "sockets -o "])
def test_a_long_value_is_not_repeated_whole(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert left_with(ctl.main, *f"{words}{'x' * 5000}".split()) == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 500


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_tells_its_version_and_its_usage(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, with success."""
    assert left_with(PROGRAMS[program], "--version") == 0
    assert capsys.readouterr().out == f"{program} {__version__}\n"
    assert left_with(PROGRAMS[program], "--help") == 0
    assert f"usage: {program}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    COMMANDS,
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help is what the manual is made from."""
    assert left_with(ctl.main, command, "--help") == 0
    assert f"usage: keepalivectl {command}" in capsys.readouterr().out


def test_the_state_directory_is_the_service_managers(monkeypatch: pytest.MonkeyPatch) -> None:
    """StateDirectory= may name several; ours is the first, and without any the usual place."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert daemon.parser().parse_args([]).state_dir == Path("/var/lib/one")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert daemon.parser().parse_args([]).state_dir == Path("/var/lib/tcp-keepalived")
    assert ctl.parser().parse_args(["restore", "--state-dir", "/x"]).state_dir == Path("/x")


def test_work_that_is_done_is_status_0() -> None:
    """And everything printed has been handed over by then."""
    assert arguments.run("keepalivectl", lambda: None) == 0


@pytest.mark.parametrize("refusal", Refusal.__subclasses__())
def test_every_refusal_is_a_line_and_its_own_status(refusal: type[Refusal], capsys: pytest.CaptureFixture[str]) -> None:
    """Never a traceback; several lines where there are several reasons, each with the program's name."""

    def work() -> None:
        raise refusal("one\x1b[2J\ntwo")

    assert arguments.run("keepalivectl", work) == refusal.status != 0
    assert capsys.readouterr().err == "keepalivectl: one\\x1b[2J\nkeepalivectl: two\n"


def test_each_refusal_has_an_exit_status_of_its_own() -> None:
    """A script that gets 77 knows that privilege is missing."""
    assert NotPermitted.status == 77
    assert len({refusal.status for refusal in Refusal.__subclasses__()}) == len(Refusal.__subclasses__())


def test_ctrl_c_leaves_as_a_shell_expects() -> None:
    """128 and the number of the signal."""

    def work() -> None:
        raise KeyboardInterrupt

    assert arguments.run("keepalivectl", work) == 130


INTERRUPTING = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
sys.meta_path.insert(0, Interrupt())
from keepaliveD import __main__
sys.argv[1:] = ["--version"]
sys.exit(__main__.{program}())
"""


@pytest.mark.parametrize("program", ["main", "ctl"])
def test_ctrl_c_while_a_program_is_loaded_prints_nothing(program: str) -> None:
    """Not Python's traceback, before the daemon catches its signals."""
    script = INTERRUPTING.format(program=program, module="keepaliveD.daemon.signals")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_daemon_without_the_null_device_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container without /dev: no worker process can begin there, and that was all it said, 10 s later."""
    monkeypatch.setattr(os, "devnull", str(tmp_path / "null"))
    assert daemon.main(["--once", "--state-dir", str(tmp_path)]) == Exit.OSERR
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f": {tmp_path / 'null'}: No such file or directory")


@pytest.mark.parametrize(
    ("number", "file", "remedy"),
    [
        (errno.EFBIG, None, "raise the limit of file sizes (LimitFSIZE=, ulimit -f)"),
        (errno.EMFILE, "/proc", "raise the limit of open files (LimitNOFILE=, ulimit -n)"),
        (errno.ENOENT, "/dev/null", "make it: mknod -m 666 /dev/null c 1 3"),
    ],
)
def test_an_error_of_the_system_comes_with_its_remedy(
    number: int, file: str | None, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    error = OSError(number, os.strerror(number), file)
    assert arguments.run("tcp-keepalived", work) == Exit.OSERR
    said = f"{file}: {error.strerror}" if file else error.strerror
    assert capsys.readouterr().err == f"tcp-keepalived: {said}; {remedy}\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`keepalivectl sockets | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    script = "from keepaliveD.cli import arguments; raise SystemExit(arguments.run('x', lambda: print('x' * 100_000)))"
    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


MISSING = """
import sys
class Hide:
    def find_spec(self, name, *_):
        if name == "numpy":
            raise {error}
sys.meta_path.insert(0, Hide())
from keepaliveD import __main__
sys.argv[1:] = {words}
sys.exit(__main__.{program}())
"""


FROM = " from ImportError('{}', name='numpy._core')"


@pytest.mark.parametrize(("program", "words"), [("main", []), ("ctl", ["sockets"])])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ModuleNotFoundError('No module named numpy', name='numpy')", Exit.UNAVAILABLE),
        ("OSError(12, 'Cannot allocate memory')", Exit.OSERR),
        ("MemoryError()", Exit.OSERR),
        ("type('PanicException', (BaseException,), {})('as pydantic raises where Rust panics')", Exit.OSERR),
        ("ImportError('libnumpy.so: failed to map segment from shared object', name='numpy')", Exit.OSERR),
        ("ImportError('IMPORTANT: read this')" + FROM.format("libnumpy.so: cannot allocate memory"), Exit.OSERR),
        ("ImportError('IMPORTANT: read this')" + FROM.format("numpy.so: wrong ELF class"), Exit.UNAVAILABLE),
    ],
)
def test_a_package_that_is_missing_or_cannot_be_loaded_is_one_line(
    program: str, words: list[str], error: str, status: Exit
) -> None:
    """A service manager that restarts it every second would fill the journal with tracebacks."""
    script = MISSING.format(program=program, words=words, error=error)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert "numpy" in line or "cannot be loaded" in line
    assert "IMPORTANT" not in line
