"""A whole terminal for a live view: keys come in, lines go out, and the terminal is as before at the end.

It is put back whatever ends the view: the end of the block, an error, or a signal. Only SIGKILL leaves it as it is.
No library does this here: rich reads no keys, and curses refuses a terminal that its database lacks.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Self

from keepaliveD.model.errors import Misuse

INPUT, OUTPUT = 0, 1
# ECMA-48 and xterm: another screen, no cursor, no wrapping, so that a line that is too long disturbs no other one
BEGIN, END = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[J", "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, CLEAR_BELOW = "\x1b[H", "\x1b[J"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
USUAL = (80, 24)  # of a terminal that does not know its size
A_MOMENT = 0.05  # seconds in which the rest of a key's sequence arrives, and in which a terminal takes what is written
SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~]|(?![\[O\x1b]).?)?")
KEYS = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1b[4~": "end",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOH": "home",
    b"\x1bOF": "end",
    b"\x1b": "escape",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\x15": "escape",  # Ctrl-U clears a line
}


class EndedBySignal(BaseException):
    """A signal has come that ends the program."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def check_terminal() -> None:
    """Raise Misuse unless keys can be read from a terminal, and its cursor can be moved."""
    if not (os.isatty(INPUT) and os.isatty(OUTPUT)):
        raise Misuse("watch requires a terminal for input and output; keepalivectl sockets --each prints a list")
    if os.environ.get("TERM", "dumb") in ("", "dumb"):
        raise Misuse("watch requires a terminal whose cursor can be moved (TERM); keepalivectl sockets prints a list")


class Keyboard:
    """Where keys come from, as something to wait for."""

    def fileno(self) -> int:
        """Return the descriptor that can be read once a key was typed."""
        return INPUT


class Screen:
    """The terminal, until the end of the block; a signal that ends the program ends the block first."""

    def __init__(self) -> None:
        self._pending = b""
        self._shown: list[str] = []
        self._before: dict[signal.Signals, Any] = {}
        self._mode: list[Any] | None = None
        self._is_ending = False
        self._process = os.getpid()
        self._wake, self._waking = os.pipe()
        self._woken_before = -1

    def __enter__(self) -> Self:
        for end in (self._wake, self._waking):
            os.set_blocking(end, False)
        self._woken_before = signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        try:
            for number in ENDING:
                self._before[number] = signal.signal(number, self._end)
            for number, handler in {signal.SIGTSTP: self._pause, signal.SIGWINCH: self._redraw}.items():
                self._before[number] = signal.signal(number, handler)
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending = True  # from here on no signal disturbs
        self._give_back()
        signal.set_wakeup_fd(self._woken_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for end in (self._wake, self._waking):
            os.close(end)

    def fileno(self) -> int:
        """Return the descriptor that can be read once a signal has come, such as that of a new size."""
        return self._wake

    def size(self) -> tuple[int, int]:
        """Return columns and lines of the terminal."""
        try:
            columns, lines = os.get_terminal_size(OUTPUT)
        except OSError:
            return USUAL
        return columns or USUAL[0], lines or USUAL[1]

    def typed(self) -> Iterator[str]:
        """Yield the keys typed since the last call, without waiting: a character, or a name. Raises EOFError."""
        with contextlib.suppress(OSError):
            while os.read(self._wake, 64):
                pass
        if _is_ready(0):
            self._read()
        while self._pending and _is_ready(A_MOMENT if self._pending.startswith(b"\x1b") else 0):
            self._read()
        typed, self._pending = self._pending, b""
        yield from _keys(typed)

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines in place of those before. They fit the terminal, and contain no unknown sequences."""
        if list(lines) == self._shown:
            return
        self._shown = list(lines)
        _write(HOME + CLEAR_BELOW + "\r\n".join(lines))  # not after a line: that would clear its last column

    def _read(self) -> None:
        try:
            octets = os.read(INPUT, 1024)
        except OSError as error:  # the terminal has gone
            raise EOFError from error
        if not octets:
            raise EOFError
        self._pending += octets

    def _take(self) -> None:
        """Have keys come at once and unseen, and begin another screen. Ctrl-C and Ctrl-Z stay signals."""
        try:
            mode = termios.tcgetattr(INPUT)
        except termios.error as error:
            raise EOFError from error
        self._mode = [*mode[:6], list(mode[6])]
        mode[0] &= ~(termios.IXON | termios.ICRNL | termios.INLCR)
        mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(INPUT, termios.TCSADRAIN, mode)
        self._shown = []
        _write(BEGIN)

    def _give_back(self) -> None:
        """Leave the terminal as it was found, as far as it is still there, without waiting for it."""
        mode, self._mode = self._mode, None
        if mode is None:
            return
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(INPUT, termios.TCSANOW, mode)
        with contextlib.suppress(OSError):
            if select.select([], [OUTPUT], [], A_MOMENT)[1]:
                _write(END)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_unmoved:
            self._is_ending = True
            raise KeyboardInterrupt if number == signal.SIGINT else EndedBySignal(number)

    def _pause(self, _number: int, _frame: FrameType | None) -> None:
        """Stop as any program does at Ctrl-Z, with the terminal as it was; go on when the shell says so."""
        if self._is_unmoved:
            return
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._pause)
        self._take()

    @property
    def _is_unmoved(self) -> bool:
        """Return whether a signal changes nothing: the end has begun, or a worker has it, which has our handlers."""
        return self._is_ending or os.getpid() != self._process

    def _redraw(self, _number: int, _frame: FrameType | None) -> None:
        """Forget what is shown: the terminal has another size."""
        self._shown = []


@contextlib.contextmanager
def ending_by_signal() -> Iterator[None]:
    """End the process by the signal that has ended the block, so that its parent sees that."""
    try:
        yield
    except EndedBySignal as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)


def _is_ready(seconds: float) -> bool:
    return bool(select.select([INPUT], [], [], seconds)[0])


def _keys(octets: bytes) -> Iterator[str]:
    """Yield the keys in what a terminal has sent; what is no known key is left out."""
    while octets:
        if octets.startswith(b"\x1b"):
            found = SEQUENCE.match(octets)
            sequence = found[0] if found else octets
            octets = octets[len(sequence) :]
            if key := KEYS.get(sequence):
                yield key
            continue
        plain, escape, rest = octets.partition(b"\x1b")
        octets = escape + rest
        for character in plain.decode(errors="ignore"):
            yield KEYS.get(character.encode(), character if character.isprintable() else "")


def _write(text: str) -> None:
    """Write all of it. Raises EOFError where the terminal has gone."""
    encoding = getattr(sys.__stdout__, "encoding", None) or "ascii"
    octets = text.encode(encoding, errors="backslashreplace")
    try:
        while octets:
            octets = octets[os.write(OUTPUT, octets) :]
    except OSError as error:
        raise EOFError from error
