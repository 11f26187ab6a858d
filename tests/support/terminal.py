"""A real terminal: tmux(1) shows what a person would see, and types what a person types."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

from tests.support.patience import SOON, has_ended
from tests.support.rig import Namespace

PROMPT = "ready> "
TICK = 0.05  # seconds between two looks at the screen
ENOUGH = 100  # looks: of a machine that stands still the time passes, and nobody looks


Found = TypeVar("Found")


class Terminal:
    """One pane of a tmux server that runs in a network namespace; a shell waits in it."""

    def __init__(self, namespace: Namespace, socket: Path) -> None:
        self._namespace = namespace
        self._socket = str(socket)

    def type(self, text: str) -> None:
        """Type these characters."""
        self.tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self.tmux("send-keys", *keys)

    def run(self, *command: str) -> None:
        """Have the shell run a command."""
        self.type(shlex.join(command))
        self.press("Enter")

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without what is empty at the end of each line."""
        return self.tmux("capture-pane", "-p").split("\n")

    @property
    def screen(self) -> str:
        """The same in one piece."""
        return "\n".join(self.lines)

    def shows(self, pattern: str, within: float = SOON) -> re.Match[str]:
        """Wait until a pattern is on the screen; fail without it."""
        return self._wait(lambda: re.search(pattern, self.screen, re.MULTILINE), f"no {pattern!r}", within)

    def shows_once(self, beginning: str) -> None:
        """Wait until exactly one line begins so: between two frames there may be none."""
        self._wait(
            lambda: [line.startswith(beginning) for line in self.lines].count(True) == 1 or None, beginning, SOON
        )

    def is_rid_of(self, pattern: str) -> None:
        """Wait until a pattern is no longer on the screen."""
        self._wait(lambda: not re.search(pattern, self.screen, re.MULTILINE) or None, f"still {pattern!r}", SOON)

    def about(self, what: str) -> str:
        """What tmux knows of the pane, such as `alternate_on` or `pane_pid`."""
        return self.tmux("display-message", "-p", f"#{{{what}}}").strip()

    def is_as_before(self) -> None:
        """Wait until the shell has its terminal back: its own screen, and a cursor."""
        self._wait(
            lambda: (self.about("alternate_on"), self.about("cursor_flag")) == ("0", "1") or None, "not as before", SOON
        )

    @property
    def modes(self) -> str:
        """How the terminal treats what is typed and written (termios(3)), by stty(1)."""
        done = self._namespace.run("stty", "-F", self.about("pane_tty"), "-g")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tmux(self, *words: str) -> str:
        """What tmux answers."""
        done = self._namespace.run("tmux", "-S", self._socket, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _wait(self, look: Callable[[], Found | None], failure: str, within: float) -> Found:
        end, looks = time.monotonic() + within, 0
        while (found := look()) is None:
            looks += 1
            is_late = looks >= ENOUGH and time.monotonic() > end
            assert not is_late, f"{failure} within {within} s, {looks} looks, on\n{self.screen}\n{self._programs()}"
            time.sleep(TICK)
        return found

    def _programs(self) -> str:
        """What runs in the pane, and where in the kernel each waits: it tells why nothing is on the screen."""
        shell = psutil.Process(int(self.about("pane_pid")))
        return "\n".join(map(_doing, [shell, *shell.children(recursive=True)]))


@contextlib.contextmanager
def terminal(namespace: Namespace, directory: Path, columns: int, lines: int = 24) -> Iterator[Terminal]:
    """A terminal of this size, until the end of the block, and of what runs in it; it dies with us."""
    socket = directory / "tmux"
    settings = directory / "tmux.conf"
    settings.write_text("set -g status off\nset -g default-terminal screen-256color\nset -g escape-time 0\n")
    forgotten = ("-u", "COLUMNS", "-u", "LINES")  # which Python's readline sets, where pytest has loaded it
    surroundings = ("env", *forgotten, "LANG=C.UTF-8", "TERM=xterm-256color")
    with (
        contextlib.ExitStack() as afterwards,
        namespace.running(*surroundings, "tmux", "-u", "-S", str(socket), "-f", str(settings), "-D") as server,
    ):
        shown = Terminal(namespace, socket)
        _await(socket)
        shell = ("env", f"PS1={PROMPT}", "sh", "-i")
        shown.tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), f"exec {shlex.join(shell)}")
        shown.shows(PROMPT.strip())
        try:
            yield shown
        finally:
            for child in psutil.Process(server.pid).children(recursive=True):
                with contextlib.suppress(ProcessLookupError):
                    afterwards.callback(has_ended, os.pidfd_open(child.pid))


def _doing(program: psutil.Process) -> str:
    """State, seconds of processor time, nanoseconds with and without a processor, and the kernel's stack."""
    with contextlib.suppress(psutil.Error, OSError):
        proc = Path("/proc", str(program.pid))
        waits = [(proc / name).read_text(encoding="ascii") for name in ("schedstat", "stack")]
        return f"{program.pid} {program.cmdline()[-3:]} {program.status()} {program.cpu_times()[:2]} {' '.join(waits)}"
    return f"{program.pid} has ended"


def _await(socket: Path) -> None:
    end = time.monotonic() + SOON
    while not socket.exists():
        assert time.monotonic() < end, "tmux does not start"
        time.sleep(TICK)
