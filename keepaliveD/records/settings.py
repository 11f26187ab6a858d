"""The settings record: the values found before ours, so that they can always be restored.

It is on the disk before the first write to the kernel, and removed after the last. Every identity has a file of its
own: another network namespace is another system. Who holds the lock also knows in memory what the file says, so
that a file that is removed or cannot be written later on costs nothing as long as the daemon runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.errors import LaterRecord, RecordDamaged, Refusal, StateError
from keepaliveD.model.text import printable
from keepaliveD.records.directory import Stamp, StateDirectory
from keepaliveD.records.format import Held, Ranges, Record, check, later_format, parse, serialise

EARLIER = "found.json"  # one file for all identities, as earlier versions wrote it
COOKIE = "cookie"  # of a network namespace
PASSING = ("boot", COOKIE)  # parts of an identity that no other system ever has


@dataclass(frozen=True, slots=True)
class DueBack:
    """What can be restored now (with what stands there), and what somebody else has set since."""

    values: Mapping[str, int] = field(default_factory=dict)
    stands: Mapping[str, int] = field(default_factory=dict)
    left_alone: Mapping[str, int] = field(default_factory=dict)


class SettingsRecord:
    """The record of the system that `identity` names, in this directory.

    What was recorded in another boot speaks of settings that no longer exist.
    """

    def __init__(self, directory: Path, identity: Mapping[str, str], ranges: Ranges) -> None:
        self._directory = StateDirectory(directory)
        self._identity = dict(identity)
        self._ranges = ranges
        self._name = file_name(identity)
        self._held: dict[str, Held] | None = None  # as soon as the file was read
        self._written: bytes | None = None  # what the file says, as far as we know ...
        self._stamp: Stamp | None = None  # ... as long as it is the same file

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else out. Raises Busy, NotPermitted, StateError."""
        with self._directory.locked():
            yield

    def can_exist(self) -> bool:
        """Whether there is a directory that it could be in. Raises NotPermitted, StateError."""
        return self._directory.exists()

    def of_other_namespaces(self) -> list[str]:
        """Return the files that record the settings of other network namespaces. Raises NotPermitted, StateError."""
        names = (name for name in self._directory.names() if name.startswith("found-") and name.endswith(".json"))
        return [str(self._directory.path / name) for name in names if name not in self._names]

    def record_found(self, found: Mapping[str, int], ours: Mapping[str, int]) -> None:
        """Record, durably, what is found where we are about to write `ours`.

        What is found is to be restored, unless it is our own from before.
        Raises StateError, NotPermitted: then nothing may be written.
        """
        held = dict(self._known())
        for key, value in ours.items():
            try:
                check(key, (found[key], value), self._ranges)
            except ValueError as error:
                raise StateError(f"{error}, so nothing is changed; set a value in range first") from error
            before = held.get(key)
            if before is None or found[key] not in before.ours:
                before = Held(found[key], ())
            held[key] = Held(before.found, tuple(sorted({*before.ours, value})))
        try:
            self._store(held)
        except Refusal as error:
            self._learn(dict(self._known()))
            wanted = ", ".join(f"{key} = {value}" for key, value in ours.items())
            what = f"not set: {wanted}; nothing is changed without a durable record"
            raise type(error)(f"{what}: {error}") from error
        self._held = held

    def confirm_set(self, ours: Mapping[str, int]) -> None:
        """Learn that these values now stand: only they count as ours from now on."""
        self._learn({k: Held(one.found, (ours[k],) if k in ours else one.ours) for k, one in self._known().items()})

    def withdraw(self, stands: Mapping[str, int]) -> None:
        """Forget what needs no restoring: where the value found stands again, or still."""
        self._learn({key: one for key, one in self._known().items() if stands.get(key) != one.found})

    def release(self, keys: Mapping[str, int]) -> None:
        """Forget settings that are somebody else's now."""
        self._learn({key: one for key, one in self._known().items() if key not in keys})

    def tend(self) -> bool:
        """Have the file say what is true. Return whether somebody had made it another file, or one that is refused.

        Raises NotPermitted, StateError, Busy: then the file may name values as ours that are no longer;
        to what is to be restored it makes no difference.
        """
        self._directory.keep_lock()
        lost = bool(self._written) and self._directory.stamp(self._name) != self._stamp
        if lost:
            self._written = None
            self._directory.drop_empty(self._name)
        held = self._known()
        if held and self._octets(held) != self._written:
            self._store(held)
        elif not held and self._written is not None:
            self.close()
        return lost and bool(held)

    def close(self) -> None:
        """Forget all, and remove the file. Raises NotPermitted, StateError, where it stays."""
        self._known()  # a damaged one is not removed
        self._held = {}
        self._directory.remove(self._name)
        self._written = None
        self._drop_earlier()

    def holds_any(self) -> bool:
        """Whether anything is recorded. Raises LaterRecord, RecordDamaged, NotPermitted, StateError."""
        return bool(self._known())

    def due_back(self, stands: Mapping[str, int]) -> DueBack:
        """What to restore, given what stands now: only what is still ours."""
        held = self._known()
        mine = {key for key, one in held.items() if stands.get(key) in one.ours}
        changed = {key: held[key].found for key in sorted(mine) if held[key].found != stands[key]}
        theirs = {
            key: stands[key] for key in sorted(held.keys() & stands.keys() - mine) if stands[key] != held[key].found
        }
        return DueBack(changed, {key: stands[key] for key in changed}, theirs)

    def without_us(self, stands: Mapping[str, int]) -> Mapping[str, int]:
        """What would stand if this program had never run."""
        return {**stands, **self.due_back(stands).values}

    def damaged(self) -> tuple[str, ...]:
        """A line for each damaged file that may be this system's: what it is, and what to do."""
        aside = sorted(name for own in self._names for name in self._directory.kept_aside(own))
        found = {name: self._reason(name) for name in self._names}
        return (
            *(self._advice(name, reason) for name, reason in found.items() if reason),
            *(self._advice(name, "kept from an earlier start") for name in aside),
        )

    def set_aside(self) -> tuple[str, ...]:
        """Move damaged files out of the way, so that what stands now is what was found. Return what damaged() does."""
        for name in self._names:
            if self._reason(name):
                self._directory.move(name, self._directory.free_aside(name))
                self._held = None
        return self.damaged()

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self._name, EARLIER)))

    def _known(self) -> Mapping[str, Held]:
        if self._held is None:
            self._held = self._load()
        return self._held

    def _learn(self, held: dict[str, Held]) -> None:
        """Know it at once; where the file cannot follow, tend() makes up for it."""
        self._held = held
        with contextlib.suppress(Refusal):
            self.tend()

    def _load(self) -> dict[str, Held]:
        for name in self._names:
            octets = self._directory.read(name)
            if octets is None:
                continue
            if number := later_format(octets):
                raise LaterRecord(
                    f"{self._directory.path / name}: settings record written by a later version (format {number}), so "
                    "nothing is changed; install that version again, or remove the file after a reboot"
                )
            try:
                record = self._parse(name, octets)
            except ValueError as error:
                raise RecordDamaged(self._advice(name, str(error))) from error
            if name == self._name:
                self._written, self._stamp = octets, self._directory.stamp(name)
            if _are_one(record.identity, self._identity):
                return dict(record.settings)
        return {}

    def _parse(self, name: str, octets: bytes) -> Record:
        record = parse(octets, self._ranges)
        if name != EARLIER and _place(record.identity) != _place(self._identity):
            place = ", ".join(map(printable, _place(record.identity).values()))
            raise ValueError(f"it belongs to another system or network namespace: {place}")
        return record

    def _reason(self, name: str) -> str:
        """Why the file is no record, or nothing. One of a later version is a record."""
        octets = self._directory.read(name)
        try:
            if octets is not None and not later_format(octets):
                self._parse(name, octets)
        except ValueError as error:
            return str(error) or "it is empty"
        return ""

    def _advice(self, name: str, reason: str) -> str:
        return (
            f"{self._directory.path / name}: damaged settings record ({reason}); the values found earlier are lost: "
            "set those you want with sysctl, then remove the file"
        )

    def _octets(self, held: Mapping[str, Held]) -> bytes:
        return serialise(Record(self._identity, held))

    def _store(self, held: Mapping[str, Held]) -> None:
        octets, before = self._octets(held), self._written
        self._written = b""  # what it says if that fails, nobody knows ...
        try:
            self._directory.replace(self._name, octets)
        except Refusal:
            with contextlib.suppress(Refusal):
                if self._directory.read(self._name) == before:  # ... unless nothing has happened
                    self._written = before
            raise
        self._written, self._stamp = octets, self._directory.stamp(self._name)
        self._drop_earlier()

    def _drop_earlier(self) -> None:
        """Remove what an earlier version recorded of this system: it is in our file now, or restored."""
        if self._name == EARLIER:
            return
        octets = self._directory.read(EARLIER)
        with contextlib.suppress(ValueError):
            if octets is not None and _place(parse(octets, self._ranges).identity) == _place(self._identity):
                self._directory.remove(EARLIER)


def file_name(identity: Mapping[str, str]) -> str:
    """The name of the record of this system, the same in every boot: found-net-4026531840.json, or found.json."""
    words = [re.sub(r"[^0-9A-Za-z]+", "-", word).strip("-") for word in _place(identity).values()]
    return "-".join(["found", *words]) + ".json"


def _place(identity: Mapping[str, str]) -> dict[str, str]:
    """The part of an identity that may be the same for another system."""
    return {name: value for name, value in identity.items() if name not in PASSING}


def _are_one(recorded: Mapping[str, str], identity: Mapping[str, str]) -> bool:
    """Whether a record speaks of this system. A cookie may be missing: of earlier versions, or it was not read."""
    names = {*recorded, *identity} - ({COOKIE} if COOKIE not in recorded or COOKIE not in identity else set())
    return all(recorded.get(name) == identity.get(name) for name in names)
