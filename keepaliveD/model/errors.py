"""Errors, named by what the caller does next; each knows its exit status (sysexits.h)."""

import enum


class Exit(enum.IntEnum):
    """Exit statuses, from sysexits.h."""

    OK = 0
    USAGE = 64
    DATAERR = 65
    NOINPUT = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    OSERR = 71
    IOERR = 74
    TEMPFAIL = 75
    NOPERM = 77
    CONFIG = 78


class Refusal(Exception):
    """Something that cannot be done, in one line that says what, where and what would be right."""

    status = Exit.OSERR


class ConfigError(Refusal):
    """A setting is wrong: the administrator edits the file."""

    status = Exit.CONFIG


class Misuse(Refusal):
    """The command line is wrong."""

    status = Exit.USAGE


class NoInput(Refusal):
    """What was asked for is not there, or cannot be read."""

    status = Exit.NOINPUT


class NotPermitted(Refusal):
    """The kernel says no: more privilege, or another sandbox, is needed."""

    status = Exit.NOPERM


class Unsupported(Refusal):
    """This system cannot do it at all."""

    status = Exit.UNAVAILABLE


class KernelError(Refusal):
    """The kernel failed in a way that another try may not repeat."""

    status = Exit.OSERR


class Busy(Refusal):
    """Another daemon is at work here: stop it, or try later."""

    status = Exit.TEMPFAIL


class StateError(Refusal):
    """A record cannot be read or written, and nothing is changed; or standard output cannot be written."""

    status = Exit.IOERR


class RecordDamaged(Refusal):
    """The durable record cannot be understood: a person has to look."""

    status = Exit.DATAERR


class Defect(Refusal):
    """This program is wrong: its authors have to look."""

    status = Exit.SOFTWARE


def unexpected(error: BaseException) -> Refusal:
    """Return what nobody foresaw as one line: the system's failure, or a defect of ours."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, OSError | MemoryError):
        return KernelError(what)
    if "can't start new thread" in str(error):
        return KernelError(f"{error}: raise the limit of processes (TasksMax=, ulimit -u)")
    return Defect(f"{what}: this is a defect of the program; please report it")
