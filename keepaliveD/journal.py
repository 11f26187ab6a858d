"""Where entries go: journald, syslog, or standard error as plain text or JSON."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from keepaliveD.entries import Entry
from keepaliveD.errors import Unsupported
from keepaliveD.text import printable, quoted

IDENTIFIER = "tcp-keepalived"
FORMATS = ("auto", "journal", "syslog", "text", "json")
LABELS = {3: "error: ", 4: "warning: "}


class Log(Protocol):
    """Anything that takes entries. It never fails: a daemon does not die of its log."""

    def __call__(self, entry: Entry) -> None:
        """Write one entry, in one piece."""


def open_log(form: str, stream: TextIO) -> Log:
    """The log of this form; "auto" is journald if `stream` leads there, else text."""
    if form == "json":
        return JsonLog(stream, time.time)
    if form == "syslog":
        return SyslogLog()
    if form == "journal" or (form == "auto" and leads_to_journal(stream) and _have_journal()):
        return JournaldLog()
    return TextLog(stream, time.localtime, levels=leads_to_journal(stream))


def leads_to_journal(stream: TextIO) -> bool:
    """Whether the service manager connected this stream to journald (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _have_journal() -> bool:
    return importlib.util.find_spec("systemd") is not None


class JournaldLog:
    """Structured entries by journald's native protocol."""

    def __init__(self) -> None:
        try:
            journal = importlib.import_module("systemd.journal")
        except ImportError as error:
            raise Unsupported("--log-format=journal: the Python module systemd (systemd-python) is missing") from error
        self._send = journal.send

    def __call__(self, entry: Entry) -> None:
        """Send one entry; values become text."""
        fields = {name: str(value) for name, value in entry.fields.items()}
        with contextlib.suppress(OSError):
            self._send(
                entry.message,
                MESSAGE_ID=entry.message_id,
                PRIORITY=str(entry.priority),
                SYSLOG_IDENTIFIER=IDENTIFIER,
                **fields,
            )


class SyslogLog:
    """One line an entry by syslog(3): the message, then MESSAGE_ID and the fields as key=value."""

    def __init__(self) -> None:
        import syslog

        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_DAEMON)
        self._send = syslog.syslog

    def __call__(self, entry: Entry) -> None:
        """Send one entry; its level is syslog's own. A value that is more than one word is in quotes."""
        fields = {"MESSAGE_ID": entry.message_id, **entry.fields}
        pairs = (f"{name}={quoted(str(value))}" for name, value in fields.items())
        self._send(entry.priority, " ".join((printable(entry.message), *pairs)))


class JsonLog:
    """One JSON object a line, with journald's names."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock

    def __call__(self, entry: Entry) -> None:
        """Write one object; `timestamp` is seconds of the epoch."""
        record = {
            "timestamp": round(self._clock(), 3),
            "MESSAGE": entry.message,
            "MESSAGE_ID": entry.message_id,
            "PRIORITY": entry.priority,
            **entry.fields,
        }
        _write(self._stream, json.dumps(record))


class TextLog:
    """One line an entry, for people; with `levels`, as sd-daemon(3) marks them instead."""

    def __init__(self, stream: TextIO, clock: Callable[[], time.struct_time], *, levels: bool = False) -> None:
        self._stream = stream
        self._clock = clock
        self._levels = levels

    def __call__(self, entry: Entry) -> None:
        """Write one line, whatever the message holds."""
        message = printable(entry.message)
        if self._levels:
            line = f"<{entry.priority}>{message}"
        else:
            line = f"{time.strftime('%H:%M:%S', self._clock())} {LABELS.get(entry.priority, '')}{message}"
        _write(self._stream, line)


def _write(stream: TextIO, line: str) -> None:
    """A reader that has gone away, or a full disk, must not end the daemon: what it found is to be given back."""
    with contextlib.suppress(OSError):
        print(line, file=stream, flush=True)


def complain(program: str, error: object) -> None:
    """Say on standard error what ended a program: each line by itself."""
    for line in str(error).splitlines():
        _write(sys.stderr, f"{program}: {printable(line)}")
