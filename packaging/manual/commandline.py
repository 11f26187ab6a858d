"""The command lines of both programs, read from their parsers."""

from __future__ import annotations

import argparse
import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass

from keepaliveD.cli import ctl, daemon


class Kind(enum.Enum):
    """What an argument takes, for a shell that completes it."""

    NOTHING = enum.auto()
    CHOICE = enum.auto()
    FILE = enum.auto()
    DIRECTORY = enum.auto()
    WORD = enum.auto()  # that no shell can foresee
    # what there is on the host at that moment:
    UNIT = enum.auto()
    PROCESS = enum.auto()  # by its name
    USER = enum.auto()
    PEER = enum.auto()  # the address of one
    PORT = enum.auto()
    ENDPOINT = enum.auto()  # address and port of a peer
    PATH = enum.auto()
    NAMESPACE = enum.auto()
    UNIT_OR_PEER = enum.auto()
    PROCESS_OR_ENDPOINT = enum.auto()  # a process by its id
    UNDOABLE = enum.auto()  # the same, settings of the system, and all
    ANYTHING = enum.auto()  # that may have connections: units, and processes by name or id, and endpoints


WORDS = ("TIME", "NUMBER", "ID", "NAMES", "TOKEN", "WHERE")
KINDS = {
    "FILE": Kind.FILE,
    "DIR": Kind.DIRECTORY,
    "UNIT": Kind.UNIT,
    "USER": Kind.USER,
    "NETWORK": Kind.PEER,
    "PORT": Kind.PORT,
    "PATH": Kind.PATH,
    "INODE": Kind.NAMESPACE,
    "TARGET": Kind.ANYTHING,
    "PRESET": Kind.CHOICE,
} | dict.fromkeys(WORDS, Kind.WORD)
KINDS_OF = {  # where a command means something else by the same word
    ("arm", "TARGET"): Kind.PROCESS_OR_ENDPOINT,
    ("deaths", "TARGET"): Kind.UNIT_OR_PEER,
    ("measure", "TARGET"): Kind.ENDPOINT,
    ("measure", "PORT"): Kind.WORD,
    ("measure", "NAME"): Kind.WORD,
    ("undo", "TARGET"): Kind.UNDOABLE,
    ("sockets", "NAME"): Kind.PROCESS,
}


@dataclass(frozen=True, slots=True)
class Argument:
    """An option, or, without `flags`, a positional argument."""

    flags: tuple[str, ...]
    kind: Kind
    value: str  # how it is called in a synopsis
    choices: tuple[str, ...]
    required: bool
    help: str
    may_lack_value: bool = False  # of an option that may stand alone


@dataclass(frozen=True, slots=True)
class Command:
    """A program, or one of its commands."""

    name: str
    help: str
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...] = ()

    @property
    def options(self) -> tuple[Argument, ...]:
        """Arguments with a name."""
        return tuple(argument for argument in self.arguments if argument.flags)

    @property
    def positionals(self) -> tuple[Argument, ...]:
        """Arguments with a place."""
        return tuple(argument for argument in self.arguments if not argument.flags)


def programs() -> tuple[Command, Command]:
    """The daemon and the control program, as they are where no service manager set anything."""
    os.environ.pop("STATE_DIRECTORY", None)
    first, second = daemon.parser(), ctl.parser()
    return _command(first, first.description or ""), _command(second, second.description or "")


def _command(parser: argparse.ArgumentParser, summary: str) -> Command:
    return Command(parser.prog.split()[-1], summary, tuple(_arguments(parser)), tuple(_commands(parser)))


def _arguments(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    name = parser.prog.split()[-1]
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            yield _argument(name, action)


def _commands(parser: argparse.ArgumentParser) -> Iterator[Command]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from (_command(command, summaries[name]) for name, command in action.choices.items())


def _argument(command: str, action: argparse.Action) -> Argument:
    choices = tuple(map(str, action.choices or ()))
    metavar = str(action.metavar or "")
    kind = Kind.NOTHING if action.nargs == 0 else Kind.CHOICE if choices else _kind(command, metavar)
    if kind is None:
        raise SystemExit(
            f"{action.dest}: its metavar {metavar!r} is not one of {', '.join(KINDS)}: how to complete it?"
        )
    help_ = (action.help or "") % {**vars(action), "prog": ""}
    flags, value = tuple(action.option_strings), metavar or "|".join(choices)
    alone = bool(flags) and action.nargs == "?"
    return Argument(flags, kind, value, choices, action.required, help_, alone)


def _kind(command: str, metavar: str) -> Kind | None:
    return KINDS_OF.get((command, metavar)) or KINDS.get(metavar)
