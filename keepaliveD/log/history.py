"""What the daemon has logged of ended connections and of changes, read from the journal.

Where there is none, a file in the state directory has the history of ended connections.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pwd
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.log.ids import MESSAGE_IDS
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model.text import printable
from keepaliveD.records.history import TIMESTAMP, History

DAEMON = "tcp-keepalived"  # its user
NO_HISTORY = "the history is in the journal"
JOURNALS = Path("/var/log/journal"), Path("/run/log/journal")  # systemd-journald.service(8)
ENDS = ("died",)
STARTS = ("started", "reloaded")
CHANGES = ("applied", "drift", "stricter", "armed", "disarmed", "restored")  # of settings and sockets
ID_LENGTH = 8  # hexadecimal digits
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
    def id(self) -> str:
        """What names this entry: the same whenever it is read, and whatever comes after it."""
        import hashlib  # with OpenSSL 5 ms, and why and status name no entry

        content = repr((self.when, sorted(self.fields.items())))
        return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:ID_LENGTH]

    @property
    def count(self) -> int:
        """How many connections it is about."""
        return int(self["COUNT"]) if COUNT.fullmatch(self["COUNT"]) else 1


ANYTHING: Sequence[Mapping[str, Collection[str]]] = ({},)
Entries = Iterable[Mapping[str, Any]]
Reader = Callable[[float], Entries]  # entries since an instant of the epoch, in their order


class Ended(NamedTuple):
    """What the daemon has logged of ended connections, newest first; and why there may be more, "" if there is not."""

    records: list[Record]
    hidden: str = ""


def ended(since: float, read: Reader | None = None, own: History | None = None) -> Ended:
    """Return what the daemon has logged of ended connections since this instant.

    Anybody can write into the journal, so entries of other users than the daemon's are left out.
    Raises Unsupported where there is neither a journal nor a history of our own; NotPermitted where nothing was found
    and not all may be read; StateError.
    """
    found: list[Record] = []
    hidden: NotPermitted | None = None
    try:
        found += [_record(fields[TIMESTAMP], fields) for fields in own.since(since)] if own else []
    except NotPermitted as refusal:
        hidden = refusal
    try:
        found += _records(since, read or journal)
    except NotPermitted as refusal:
        hidden = hidden or refusal
    except Unsupported:
        if not hidden and not (own and own.exists()):
            raise
    if hidden and not found:
        raise hidden
    return Ended(sorted(found, key=lambda record: record.when)[::-1], str(hidden or ""))


def changed(since: float, read: Reader | None = None) -> list[Record]:
    """Return what was logged of changes of settings and sockets since this instant, in their order.

    That is what the daemon and root have changed: anybody can write such an entry. Raises Unsupported, NotPermitted.
    """
    return _records(since, read or functools.partial(journal, events=CHANGES))


def unseen(read: Reader | None = None) -> str:
    """Return what a daemon could not see of ends of connections when it was last started or reloaded, and why."""
    try:
        records = _records(0.0, read or functools.partial(journal, events=STARTS, newest=1))
    except (Unsupported, NotPermitted):
        return ""
    return records[-1]["UNSEEN"] if records else ""


def without_introduction(refusal: Refusal) -> str:
    """Return why the journal cannot be read, for whoever has said already that the history is there."""
    return str(refusal).removeprefix(NO_HISTORY).removeprefix(": ").removeprefix(", and ")


def _records(since: float, read: Reader) -> list[Record]:
    trusted = _trusted()
    return [
        _record(entry["__REALTIME_TIMESTAMP"].timestamp(), entry)
        for entry in read(since)
        if str(entry.get("_UID")) in trusted
    ]


def journal(
    since: float,
    events: Sequence[str] = ENDS,
    causes: Sequence[str] = (),
    about: Sequence[Mapping[str, Collection[str]]] = ANYTHING,
    newest: int = 0,
) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of the system's journal about these events, or only those of these causes.

    Of `about`, the values of fields, one of which an entry has, at least one must fit. With `newest` only so many are
    yielded, the newest first: a journal may have a hundred thousand, each of which takes 0.1 ms and more. Entries of
    users who are not trusted are left out here as well, so that they take nobody's place.
    Raises Unsupported where no journal is kept, NotPermitted where there is none of the entries and not all are shown.
    """
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
    wanted = {"MESSAGE_ID": [MESSAGE_IDS[event] for event in events], "KEEPALIVE_CAUSE": causes, "_UID": _trusted()}
    with reader:
        for fields in about:
            reader.add_disjunction()
            for name, values in (*wanted.items(), *fields.items()):
                for value in values:  # those of one field are alternatives, sd_journal_add_match(3)
                    reader.add_match(**{name: value})
        is_empty = True
        for entry in _backwards(reader, since, newest) if newest else _forwards(reader, since):
            is_empty = False
            yield entry
    if is_empty:
        _check_that_it_is_read()


def _forwards(reader: Any, since: float) -> Iterator[Mapping[str, Any]]:
    reader.seek_realtime(since)
    yield from reader


def _backwards(reader: Any, since: float, most: int) -> Iterator[Mapping[str, Any]]:
    reader.seek_tail()
    for _ in range(most):
        entry = reader.get_previous()
        if not entry or entry["__REALTIME_TIMESTAMP"].timestamp() < since:
            return
        yield entry


def _check_that_it_is_read() -> None:
    """Raise Unsupported where this host keeps no journal, NotPermitted where that of the system may not be read."""
    files = list(_journals_of_the_system())
    if not files:
        places = " or ".join(map(str, JOURNALS))
        raise Unsupported(f"{NO_HISTORY}, and this host keeps none, in {places}")
    if not any(os.access(file, os.R_OK, effective_ids=True) for file in files):
        raise NotPermitted(f"{NO_HISTORY}: not permitted: run as root, or in the group systemd-journal")


def _journals_of_the_system() -> Iterator[Path]:
    """Yield the files that hold it; the directory where these may not be listed."""
    for directory in JOURNALS:
        with contextlib.suppress(OSError):
            for host in directory.iterdir():
                try:
                    yield from (host / name for name in os.listdir(host) if name.startswith("system"))
                except PermissionError:
                    yield host


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
