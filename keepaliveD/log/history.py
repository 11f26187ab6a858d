"""What the daemon has logged of ended connections and of changes, read from the journal.

Where there is none, a file in the state directory has the history of ended connections.
"""

from __future__ import annotations

import functools
import importlib
import pwd
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.model.errors import NotPermitted, Unsupported
from keepaliveD.model.text import printable
from keepaliveD.records.history import TIMESTAMP, History

DAEMON = "tcp-keepalived"  # its user
NO_HISTORY = "the history is in the journal"
ENDS = ("died",)
STARTS = ("started", "reloaded")
CHANGES = ("applied", "drift", "stricter", "armed", "disarmed", "restored")  # of settings and sockets
COUNT = re.compile("[0-9]{1,9}")  # of a damaged entry it may be anything


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: when it was written, in seconds of the epoch, and its fields, which are printable."""

    when: float
    fields: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """Return a field of ours without its prefix, "" where the entry has none."""
        return self.fields.get(f"KEEPALIVE_{name}", "")

    @property
    def count(self) -> int:
        """How many connections it is about."""
        return int(self["COUNT"]) if COUNT.fullmatch(self["COUNT"]) else 1


Entries = Iterable[Mapping[str, Any]]
Reader = Callable[[float], Entries]  # entries since an instant of the epoch, in their order


def ended(since: float, read: Reader | None = None, own: History | None = None) -> list[Record]:
    """Return what the daemon has logged of ended connections since this instant, newest first.

    Anybody can write into the journal, so entries of other users than the daemon's are left out.
    Raises Unsupported where there is neither a journal nor a history of our own; NotPermitted, StateError.
    """
    kept, not_permitted = _kept(since, own)
    try:
        kept += _records(since, read or journal)
    except Unsupported as unsupported:
        if not_permitted:
            raise not_permitted from unsupported
        if not own or not own.exists():
            raise
    return sorted(kept, key=lambda record: record.when)[::-1]


def _kept(since: float, own: History | None) -> tuple[list[Record], NotPermitted | None]:
    """Return what is in the history of our own; or why it may not be read, which matters only without a journal."""
    try:
        return [_record(fields[TIMESTAMP], fields) for fields in own.since(since)] if own else [], None
    except NotPermitted as refusal:
        return [], refusal


def changed(since: float, read: Reader | None = None) -> list[Record]:
    """Return what was logged of changes of settings and sockets since this instant, in their order.

    That is what the daemon and root have changed: anybody can write such an entry. Raises Unsupported, NotPermitted.
    """
    return _records(since, read or functools.partial(journal, events=CHANGES))


def unseen(read: Reader | None = None) -> str:
    """Return what a daemon could not see of ends of connections when it was last started or reloaded, and why."""
    try:
        records = _records(0.0, read or functools.partial(journal, events=STARTS))
    except (Unsupported, NotPermitted):
        return ""
    return records[-1]["UNSEEN"] if records else ""


def _records(since: float, read: Reader) -> list[Record]:
    trusted = _trusted()
    return [
        _record(entry["__REALTIME_TIMESTAMP"].timestamp(), entry)
        for entry in read(since)
        if str(entry.get("_UID")) in trusted
    ]


def journal(since: float, events: Sequence[str] = ENDS) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of the system's journal about these events. Raises Unsupported, NotPermitted."""
    try:
        systemd = importlib.import_module("systemd.journal")
    except ImportError as error:
        raise Unsupported(f"{NO_HISTORY}: the Python module systemd (systemd-python) is missing") from error
    try:
        reader = systemd.Reader()
    except PermissionError as error:
        raise NotPermitted(f"{NO_HISTORY}: not permitted: run as root, or in the group systemd-journal") from error
    except OSError as error:
        raise Unsupported(f"{NO_HISTORY}: it cannot be opened: {error.strerror}") from error
    with reader:
        for event in events:  # matches of one field are alternatives, sd_journal_add_match(3)
            reader.add_match(MESSAGE_ID=MESSAGE_IDS[event])
        reader.seek_realtime(since)
        yield from reader


def _trusted() -> set[str]:
    """Return the users whose entries count: root, and the daemon's."""
    try:
        return {"0", str(pwd.getpwnam(DAEMON).pw_uid)}
    except KeyError:
        return {"0"}


def _record(when: float, entry: Mapping[str, Any]) -> Record:
    fields = {name: _text(value) for name, value in entry.items() if name == "MESSAGE" or name.startswith("KEEPALIVE_")}
    return Record(when, fields)


def _text(value: object) -> str:
    """Return a value as printable lines; one that is not text is a list of octets, or of several values."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return "\n".join(map(printable, str(value).splitlines()))
