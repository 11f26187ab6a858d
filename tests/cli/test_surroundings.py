"""What is around the programs may be broken: they say so in one line, with the right status, never a traceback."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.cli.ctl import main, parser
from keepaliveD.daemon.sources import handing_over
from keepaliveD.model.errors import NoInput, StateError
from keepaliveD.platforms import detect
from keepaliveD.records.directory import StateDirectory
from tests.support.unprivileged import as_nobody, reachable_directory

pytestmark = pytest.mark.long  # most start the program

SHIPPED = Path(__file__).parents[2] / "etc/tcp-keepalived/config.toml"
CHECK = ("check", str(SHIPPED))
SOCKETS = ("sockets", "--config", str(SHIPPED))
LONG = "x" * 300
BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"])
CONTROL = "from keepaliveD.__main__ import ctl; ctl()"
INCOMPLETE = "keepalivectl: standard output: cannot be written: {}; the output is incomplete\n"


def control(
    *words: str,
    before: str = "",
    redirected: str = "",
    unbuffered: str = "",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """One run of keepalivectl by a shell, with what it redirects."""
    return subprocess.run(
        ["sh", "-c", f'{before}"$@" {redirected}', "sh", sys.executable, "-c", CONTROL, *words],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": unbuffered, **environment},
        check=False,
        timeout=60,
    )


def last_line(said: str) -> str:
    """What follows warnings about connections that cannot be seen."""
    *warnings, last = said.splitlines(keepends=True)
    assert all(line.startswith("warning: ") for line in warnings)
    return last


@BUFFERING
@pytest.mark.parametrize("words", [CHECK, SOCKETS, (*SOCKETS, "--json"), ("engine", *SOCKETS[1:])])
def test_output_on_a_full_disk_is_one_line_and_status_74(words: tuple[str, ...], unbuffered: str) -> None:
    """A script that keeps the report must learn that it has none."""
    done = control(*words, redirected=">/dev/full", unbuffered=unbuffered)
    assert (done.returncode, last_line(done.stderr)) == (74, INCOMPLETE.format("No space left on device"))


@BUFFERING
@pytest.mark.parametrize("words", [CHECK, SOCKETS, (*SOCKETS, "--json")])
def test_output_that_is_closed_is_one_line_and_status_74(words: tuple[str, ...], unbuffered: str) -> None:
    done = control(*words, redirected=">&-", unbuffered=unbuffered)
    assert (done.returncode, last_line(done.stderr)) == (74, INCOMPLETE.format("it is closed"))


@BUFFERING
@pytest.mark.parametrize("words", ["--help", "--version"])
@pytest.mark.parametrize(("redirected", "reason"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_help_that_cannot_be_written_is_one_line_and_status_74(
    words: str, redirected: str, reason: str, unbuffered: str
) -> None:
    done = control(words, redirected=redirected, unbuffered=unbuffered)
    assert (done.returncode, last_line(done.stderr)) == (74, INCOMPLETE.format(reason))


@BUFFERING
@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_where_standard_error_cannot_be_written_the_exit_status_says_so(redirected: str, unbuffered: str) -> None:
    """And nothing is written to where it does not belong."""
    done = control("check", "/nonexistent", redirected=redirected, unbuffered=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (66, "", "")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[watch]\ninterval = '300years'\n", "watch.interval: '300years' is out of range"),
        ("[watch]\n" + "a." * 2500 + "a = 1\n", "not TOML: a key or a list is nested too deep"),
    ],
)
def test_what_would_end_the_daemon_is_refused_before(tmp_path: Path, text: str, key: str) -> None:
    """By the real program: it checks as the daemon does."""
    (tmp_path / "config.toml").write_text(text)
    done = control("check", str(tmp_path / "config.toml"))
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"keepalivectl: {tmp_path}/config.toml:2: {key}")
    assert (done.returncode, done.stdout) == (78, "")


@pytest.mark.parametrize("place", ["config.toml", "config.d/a.toml"])
def test_a_fifo_in_the_place_of_a_configuration_is_refused_and_not_waited_for(tmp_path: Path, place: str) -> None:
    """Nobody may ever write into it."""
    (tmp_path / "config.d").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "config.toml").touch()
    (tmp_path / place).unlink(missing_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "fifo")
    done = control("check", str(tmp_path / "config.toml"))
    assert done.stderr == f"keepalivectl: {tmp_path}/{place}: cannot be read: it is not a regular file\n"
    assert (done.returncode, done.stdout) == (66, "")


@BUFFERING
def test_a_reader_that_goes_away_is_no_error(unbuffered: str) -> None:
    """`keepalivectl check | true` stays silent."""
    done = control(*CHECK, before="{ ", redirected="; echo $? >&2; } | true", unbuffered=unbuffered)
    assert done.stderr == "0\n"


def test_a_name_that_the_terminal_has_no_letters_for_is_escaped(tmp_path: Path) -> None:
    """In a locale of one byte a letter, and where the name is no text at all."""
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.toml").write_text('[[path]]\nname = "Büro → Wien"\ntimeout = "1h"\n')
    (tmp_path / "config.d" / os.fsdecode(b"\xff\n.toml")).write_text("")
    done = control("check", str(tmp_path / "config.toml"), PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"config.d/\udcff\n.toml" in done.stdout
    assert r"path B\xfcro \u2192 Wien" in done.stdout


def test_what_other_packages_would_add_to_pydantic_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("raise SystemExit('it was loaded')\n", encoding="ascii")
    about = tmp_path / "plugin-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n", encoding="ascii")
    (about / "entry_points.txt").write_text("[pydantic]\nplugin = plugin:plugin\n", encoding="ascii")
    done = control(*CHECK, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("valid: ")


@pytest.fixture
def locked() -> Iterator[Path]:
    """A directory that may not be searched, by a user without privilege."""
    with reachable_directory() as directory:
        directory.chmod(0)
        yield directory


@pytest.mark.parametrize("command", ["restore", "disarm"])
def test_a_state_directory_that_was_asked_for_and_is_not_there_is_one_line_and_status_66(
    command: str, tmp_path: Path
) -> None:
    """A mistyped name must not look like a machine with nothing to undo."""
    done = control(command, "--state-dir", str(tmp_path / "mistyped"))
    said = f"keepalivectl: {tmp_path}/mistyped: does not exist; name the --state-dir of the daemon\n"
    assert (done.returncode, done.stdout, done.stderr) == (66, "", said)


def test_where_the_usual_state_directory_is_not_there_nothing_is_to_be_restored(tmp_path: Path) -> None:
    """A package that is removed restores, whether or not the daemon ever ran."""
    done = control("restore", STATE_DIRECTORY=str(tmp_path / "state"))
    said = f"nothing to restore: {tmp_path}/state does not exist\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize("command", ["restore", "disarm"])
def test_a_state_directory_that_is_a_loop_of_links_is_named_itself(command: str, tmp_path: Path) -> None:
    """Not the file in it, which nobody can remove. The daemon says so in the same words."""
    (tmp_path / "loop").symlink_to("loop")
    done = control(command, "--state-dir", str(tmp_path / "loop"))
    said = f"{tmp_path}/loop: cannot be read: Too many levels of symbolic links"
    assert (done.returncode, done.stdout, done.stderr) == (74, "", f"keepalivectl: {said}\n")
    with pytest.raises(StateError, match=f"^{said}$"), StateDirectory(tmp_path / "loop").locked():
        pass


@pytest.mark.parametrize("command", ["restore", "disarm"])
def test_a_state_directory_that_is_a_link_to_nothing_is_said_to_be_so(command: str, tmp_path: Path) -> None:
    """By the daemon in the same words."""
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    done = control(command, "--state-dir", str(tmp_path / "link"))
    said = f"{tmp_path}/link: is a link to {tmp_path}/gone, which does not exist; make that, or remove the link"
    assert (done.returncode, done.stdout, done.stderr) == (66, "", f"keepalivectl: {said}\n")
    with pytest.raises(NoInput, match=f"^{said}$"), StateDirectory(tmp_path / "link").locked():
        pass


@pytest.mark.parametrize("command", ["restore", "disarm"])
def test_a_state_directory_with_too_long_a_name_is_one_line_and_status_74(command: str) -> None:
    done = control(command, "--state-dir", f"/tmp/{LONG}")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"keepalivectl: /tmp/{LONG}")
    assert ": File name too long" in line
    assert (done.returncode, done.stdout) == (74, "")


def test_a_state_directory_that_may_not_be_searched_is_one_line_and_status_77(
    locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing to restore would be a lie."""
    parser(["restore"])  # imports what nobody may not read, where Python or the checkout is root's
    detect()
    codecs.lookup("ascii")
    with as_nobody():
        assert main(["restore", "--state-dir", str(locked / "state")]) == 77
    assert capsys.readouterr() == (
        "",
        f"keepalivectl: {locked}/state: cannot be read: Permission denied; "
        "run as root, or choose another --state-dir\n",
    )


@pytest.mark.parametrize("directory", [f"/run/{LONG}", "/proc/version/x", ""])
def test_a_runtime_directory_that_cannot_be_has_no_successor_in_it(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the settings are restored at the end."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
    assert not handing_over()
