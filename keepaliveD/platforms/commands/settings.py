"""What all systems have in common whose settings are read and written one by one, by a command."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping
from typing import Protocol

from keepaliveD.model.errors import ConfigError, KernelError, Refusal
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import Roles
from keepaliveD.platforms.commands.run import Output, refusal

INT_MIN, INT_MAX, UINT_MAX = -(2**31), 2**31 - 1, 2**32 - 1


class Store(Protocol):
    """A command that reads and writes settings by name."""

    @property
    def cure(self) -> str:
        """Return what to do if a privilege is missing."""

    def read(self, key: str) -> int:
        """Return what stands there. Raises Absent, Unsupported, NotPermitted, KernelError."""

    def put(self, key: str, value: int) -> Output:
        """Ask for a value, which may not stand afterwards. Raises Unsupported, NotPermitted, KernelError."""


class Settings(abc.ABC):
    """The part of a Tuner that does not depend on the system.

    `notes` are what this system cannot do or does differently, for people.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, store: Store, roles: Roles) -> None:
        self.roles = roles
        self._store = store
        self._keys = tuple(filter(None, (roles.interval, roles.probes, roles.idle)))

    @property
    def ranges(self) -> Mapping[str, range]:
        """Return the ranges of 32 bits: some kernels check nothing."""
        return dict.fromkeys(self._keys, range(INT_MIN, UINT_MAX + 1))

    @property
    @abc.abstractmethod
    def identity(self) -> Mapping[str, str]:
        """Return what must be equal for recorded settings to be those of this system."""

    @abc.abstractmethod
    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """Return the settings that bring about this keepalive."""

    def read(self) -> Mapping[str, int]:
        """Return the settings that stand now. Raises Unsupported, NotPermitted, KernelError."""
        return {key: self._store.read(key) for key in self._keys}

    def exchange(self, key: str, expected: int, value: int) -> int:
        """Write `value` if `expected` stands, and nothing otherwise. Return the value that stood before.

        Between reading and writing a command has to be started: what somebody else writes meanwhile is lost.
        Raises Unsupported, NotPermitted with its remedy, KernelError, having put back what stood there.
        """
        if key not in self._keys:
            raise KernelError(f"{key}: refused: not a keepalive setting")
        stood = self._store.read(key)
        if stood != expected:
            return stood
        try:
            self._set(key, value)
        except Refusal:
            with contextlib.suppress(Refusal):  # the reason for it all is worth more
                if self._store.read(key) != stood:  # a command that fails may have written all the same
                    self._set(key, stood)
            raise
        return stood

    def ways_to_write(self, key: str, value: int) -> tuple[int, ...]:
        """Return what to write so that `value` reads back, in the order in which to try it."""
        del key
        return (value,)

    def _set(self, key: str, value: int) -> None:
        """Write a value, and raise if it does not read back: neither a status of 0 nor a message proves success."""
        for written in self.ways_to_write(key, value):
            answer = self._store.put(key, written)
            stands = self._store.read(key)
            if stands == value:
                return
        if answer.reason:
            raise refusal(f"{key}: cannot be set to {value}: {answer.reason}", self._store.cure)
        raise KernelError(f"{key}: set to {value}, but the system reports {stands}")


def within(setting: str, value: int, lowest: int, highest: int) -> None:
    """Raise ConfigError where this kernel would not take keepalive.`setting`, or misunderstand it."""
    if not lowest <= value <= highest:
        raise ConfigError(f"keepalive.{setting} = {value}: out of range; this system allows {lowest} to {highest}")


def without_overflow(keepalive: Keepalive, units: int) -> None:
    """Raise ConfigError where idle + interval x probes, which the kernel computes in an int, is too much for it.

    `units` is how many of the kernel's units make a second.
    """
    longest = INT_MAX // units
    dead_after = keepalive.idle + keepalive.interval * keepalive.probes
    if dead_after > longest:
        raise ConfigError(
            f"keepalive.idle + keepalive.interval x keepalive.probes = {dead_after}s: too long; "
            f"this system allows {longest}s in total"
        )
