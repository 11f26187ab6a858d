"""Where entries go: journald, syslog, or standard error as plain text or JSON."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import queue
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from keepaliveD.log.complaint import PATIENCE, Write, unbuffered
from keepaliveD.log.entries import WARNING, Entry, Value
from keepaliveD.model.errors import KernelError, Unsupported
from keepaliveD.model.text import printable, quoted
from keepaliveD.threads import Task

IDENTIFIER = "tcp-keepalived"
LABELS = {3: "error: ", 4: "warning: "}
ROOM = 4096  # entries kept for a reader that is slow: more than one scan has to say
JOURNALD = "/run/systemd/journal/socket"  # of the native protocol
RETRY = 1.0  # seconds after which a full queue is tried again at the latest: journald may have a new one
TOO_MANY = 1024  # fields: of two buffers each, which are more than sendmsg(2) and writev(2) take (IOV_MAX)


class Log(Protocol):
    """Anything that takes entries. It never fails: a daemon does not die of its log."""

    def __call__(self, entry: Entry) -> None:
        """Write one entry, in one piece."""


def open_log(form: str, stream: TextIO | None) -> Log:
    """Return the log of this form; "auto" is journald if `stream` leads there, else text."""
    if form == "json":
        return JsonLog(unbuffered(stream), time.time)
    if form == "syslog":
        return SyslogLog()
    if form == "journal":
        return JournaldLog()
    if form == "auto" and leads_to_journal(stream):
        with contextlib.suppress(Unsupported):
            return JournaldLog()
    return TextLog(unbuffered(stream), time.localtime, levels=leads_to_journal(stream))


@contextlib.contextmanager
def never_waiting(log: Log, room: int = ROOM) -> Iterator[Log]:
    """Give a log that writes to `log` from a thread of its own, so that a reader who stalls stalls nobody else.

    What finds no room is dropped, counted, and reported once there is room again. The end waits
    PATIENCE seconds for what is still unwritten. Raises KernelError where no thread can be started.
    """
    background = _Background(log, room)
    try:
        yield background
    finally:
        background.close()


class _Background:
    """A bounded queue and its writer."""

    def __init__(self, log: Log, room: int) -> None:
        self._log = log
        self._entries: queue.Queue[Entry | None] = queue.Queue(room)
        self._dropped = 0
        self._closing = False
        try:
            self._writer = Task(self._write)
        except OSError as error:
            raise KernelError(f"the log cannot be written: {error}") from error

    def __call__(self, entry: Entry) -> None:
        """Queue one entry; count it where there is no room."""
        try:
            if self._dropped:
                self._entries.put_nowait(_dropped(self._dropped))
                self._dropped = 0
            self._entries.put_nowait(entry)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Wait a little for the writer; it dies with the process if its reader never comes back."""
        self._closing = True
        with contextlib.suppress(queue.Full):
            self._entries.put_nowait(None)
        self._writer.wait(PATIENCE)

    def _write(self) -> None:
        while not (self._closing and self._entries.empty()) and (entry := self._entries.get()):
            with contextlib.suppress(Exception):  # an entry that cannot be written costs that entry alone
                self._log(entry)


def _dropped(count: int) -> Entry:
    return Entry(
        "log-overflow",
        WARNING,
        f"dropped {count} log entr{'y' if count == 1 else 'ies'}: the reader of the log stalled; find out why",
        {"KEEPALIVE_COUNT": count},
    )


def leads_to_journal(stream: TextIO | None) -> bool:
    """Return whether the service manager connected this stream to journald (JOURNAL_STREAM, systemd.exec(5))."""
    if stream is None:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournaldLog:
    """Structured entries by journald's native protocol.

    systemd-python keeps every thread of the interpreter waiting while sendmsg(2) does (version 235), and that
    waits as long as journald does not read. So libsystemd's socket does not block here: this waits instead.
    """

    def __init__(self) -> None:
        """Raises Unsupported where there is no systemd-python, or its socket cannot be found."""
        try:
            journal = importlib.import_module("systemd.journal")
        except ImportError as error:
            raise Unsupported("--log-format=journal: the Python module systemd (systemd-python) is missing") from error
        self._send = journal.send
        self._socket = _unblocked_socket(journal.sendv)

    def __call__(self, entry: Entry) -> None:
        """Send one entry as soon as there is room for it; values become text."""
        fields = {name: str(value) for name, value in entry.fields.items()}
        while True:
            try:
                self._send(
                    entry.text,
                    MESSAGE_ID=entry.message_id,
                    PRIORITY=str(entry.priority),
                    SYSLOG_IDENTIFIER=IDENTIFIER,
                    **fields,
                )
            except BlockingIOError:
                self._await_room()
            except OSError:
                return
            else:
                return

    def _await_room(self) -> None:
        """Return when an entry may find room: a connected socket is ready once its peer's queue is not full."""
        with contextlib.suppress(OSError):
            self._socket.connect(JOURNALD)
        ready = select.poll()
        ready.register(self._socket, select.POLLOUT)
        ready.poll(RETRY * 1000)


@functools.cache
def _unblocked_socket(sendv: Callable[..., None]) -> socket.socket:
    """Return the socket that libsystemd keeps for journald, set not to block. Raises Unsupported.

    libsystemd opens it at the first entry. This one has too many fields: no kernel takes it, so that it is sent
    nowhere and waits for nothing. The new socket has the lowest number that was free, as open(2) has it.
    """
    free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(free)
    with contextlib.suppress(OSError):
        sendv(*["NOTHING=1"] * TOO_MANY)
    with contextlib.suppress(OSError):
        found = socket.socket(fileno=os.dup(free))
        if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_DGRAM):
            found.setblocking(False)
            return found
        found.close()
    raise Unsupported("--log-format=journal: this version of libsystemd opens its socket in another way")


class SyslogLog:
    """One line an entry by syslog(3): the message, then MESSAGE_ID and the fields as key=value.

    Lines that follow the message are messages of their own.
    """

    def __init__(self) -> None:
        import syslog

        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_DAEMON)
        self._send = syslog.syslog

    def __call__(self, entry: Entry) -> None:
        """Send one entry; its level is syslog's own. A value that is more than one word is in quotes."""
        fields = {"MESSAGE_ID": entry.message_id, **entry.fields}
        pairs = (f"{name}={quoted(str(value))}" for name, value in fields.items())
        for line in (" ".join((printable(entry.message), *pairs)), *map(printable, entry.below)):
            self._send(entry.priority, line)


class JsonLog:
    """One JSON object a line, with journald's names."""

    def __init__(self, write: Write, clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock

    def __call__(self, entry: Entry) -> None:
        """Write one object."""
        self._write(json.dumps(as_object(entry, self._clock())) + "\n")


def as_object(entry: Entry, now: float) -> dict[str, Value]:
    """Return an entry with journald's names; `timestamp` is the time `now`, in seconds of the epoch."""
    return {
        "timestamp": round(now, 3),
        "MESSAGE": entry.text,
        "MESSAGE_ID": entry.message_id,
        "PRIORITY": entry.priority,
        **entry.fields,
    }


class TextLog:
    """One line an entry, for people, and the lines that follow it; with `levels`, as sd-daemon(3) marks them."""

    def __init__(self, write: Write, clock: Callable[[], time.struct_time], *, levels: bool = False) -> None:
        self._write = write
        self._clock = clock
        self._levels = levels

    def __call__(self, entry: Entry) -> None:
        """Write one line, whatever the message holds, and what follows it in lines of its own, all in one piece."""
        first, below = printable(entry.message), map(printable, entry.below)
        if self._levels:
            lines = [f"<{entry.priority}>{line}" for line in (first, *below)]
        else:
            now = f"{time.strftime('%H:%M:%S', self._clock())} "
            lines = [f"{now}{LABELS.get(entry.priority, '')}{first}", *(" " * len(now) + line for line in below)]
        self._write("".join(f"{line}\n" for line in lines))
