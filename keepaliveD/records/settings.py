"""The durable record of the values found before ours, so that they can always be given back.

It is on the disk before the first write to the kernel, and leaves it after the last.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepaliveD.errors import Busy, NotPermitted, RecordDamaged, Refusal, StateError

FORMAT = 1
LOCK = "lock"  # a file in the state directory, locked as long as a daemon uses it


@dataclass(frozen=True, slots=True)
class Held:
    """One setting in the record: the value to restore, and the values that are ours."""

    found: int
    ours: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """What can be given back now (with what stands there), and what somebody else has since set."""

    values: Mapping[str, int] = field(default_factory=dict)
    stands: Mapping[str, int] = field(default_factory=dict)
    left_alone: Mapping[str, int] = field(default_factory=dict)


class SettingsRecord:
    """The record in `directory`, good only for the system that `identity` names.

    A record of another boot or namespace speaks of settings that no longer exist.
    """

    def __init__(self, directory: Path, identity: Mapping[str, str]) -> None:
        self._directory = directory
        self._file = directory / "found.json"
        self._new = directory / "found.new"
        self._identity = dict(identity)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else out. Raises Busy, NotPermitted, StateError."""
        with self._reporting("made"):
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.open(self._directory / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"{self._directory}: another tcp-keepalived is at work here; stop it first") from error
            except OSError as error:
                raise self._refusal(error, "locked") from error
            yield
        finally:
            os.close(lock)

    def keep(self, found: Mapping[str, int], ours: Mapping[str, int]) -> None:
        """Record, durably, what is found where we are about to write `ours`.

        What is found is to be given back unless it is our own from before.
        """
        held = self._load()
        for key, value in ours.items():
            before = held.get(key)
            if before is None or found[key] not in before.ours:
                before = Held(found[key], ())
            held[key] = Held(before.found, tuple(sorted({*before.ours, value})))
        self._store(held)

    def settle(self, ours: Mapping[str, int]) -> None:
        """Record that these values now stand; only they count as ours from now on."""
        held = self._load()
        self._store({key: Held(one.found, (ours[key],) if key in ours else one.ours) for key, one in held.items()})

    def withdraw(self, stands: Mapping[str, int]) -> None:
        """Forget what needs no giving back: where the value found stands again, or still."""
        held = {key: one for key, one in self._load().items() if stands.get(key) != one.found}
        if held:
            self._store(held)
        else:
            self.close()

    def release(self, keys: Mapping[str, int]) -> None:
        """Forget settings that are somebody else's now."""
        self._store({key: one for key, one in self._load().items() if key not in keys})

    def holds_any(self) -> bool:
        """Whether anything is recorded."""
        return bool(self._load())

    def due_back(self, stands: Mapping[str, int]) -> Return:
        """What to give back, given what stands now: only what is still ours."""
        held = self._load()
        mine = {key for key, one in held.items() if stands.get(key) in one.ours}
        changed = {key: held[key].found for key in sorted(mine) if held[key].found != stands[key]}
        theirs = {
            key: stands[key] for key in sorted(held.keys() & stands.keys() - mine) if stands[key] != held[key].found
        }
        return Return(changed, {key: stands[key] for key in changed}, theirs)

    def close(self) -> None:
        """All is given back: forget it."""
        with self._reporting("removed"):
            self._new.unlink(missing_ok=True)
            self._file.unlink(missing_ok=True)
            self._sync_directory()

    def _load(self) -> dict[str, Held]:
        try:
            text = self._file.read_text(encoding="ascii")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StateError(f"{self._file}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error
        try:
            return self._parse(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from error

    def _parse(self, record: Any) -> dict[str, Held]:
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}")
        if record["identity"] != self._identity:
            return {}
        return {
            str(key): Held(_whole(one["found"]), tuple(_whole(value) for value in one["ours"]))
            for key, one in record["settings"].items()
        }

    def _damaged(self, error: Exception) -> RecordDamaged:
        return RecordDamaged(
            f"{self._file}: not a record of this program ({error}); "
            "set the values you want with sysctl, then remove the file"
        )

    def _store(self, held: Mapping[str, Held]) -> None:
        record = {
            "format": FORMAT,
            "identity": self._identity,
            "settings": {key: {"found": one.found, "ours": list(one.ours)} for key, one in held.items()},
        }
        with self._reporting("written"):
            with open(self._new, "w", encoding="ascii") as file:
                json.dump(record, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            self._new.replace(self._file)
            self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _reporting(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(error, verb) from error

    def _refusal(self, error: OSError, verb: str) -> Refusal:
        problem = f"{error.filename or self._file}: cannot be {verb}: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return NotPermitted(f"{problem}; run as root, or choose another --state-dir")
        return StateError(f"{problem}; without a durable record nothing is changed")


def _whole(number: object) -> int:
    if type(number) is not int:  # not even a bool
        raise TypeError(f"{number!r} is no whole number")
    return number
