"""Errors, named by what the caller does next; each knows its exit status (sysexits.h)."""

import enum
import errno

NULL = "/dev/null"
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Exit(enum.IntEnum):
    """Exit statuses, from sysexits.h."""

    OK = 0
    USAGE = 64
    DATAERR = 65
    NOINPUT = 66
    NOHOST = 68
    UNAVAILABLE = 69
    SOFTWARE = 70
    OSERR = 71
    IOERR = 74
    TEMPFAIL = 75
    NOPERM = 77
    CONFIG = 78


class Refusal(Exception):
    """An error: one line that says what failed, where, and what would be right."""

    status = Exit.OSERR


class ConfigError(Refusal):
    """The configuration is wrong: correct the file that the message names."""

    status = Exit.CONFIG


class Misuse(Refusal):
    """The command line is wrong, or what it asks for would keep no connection alive."""

    status = Exit.USAGE


class NoInput(Refusal):
    """A file, process, connection or host name does not exist, or a file cannot be read."""

    status = Exit.NOINPUT


class NoAnswer(NoInput):
    """A process hangs, or was not asked in time: end those that hang."""


class NotPermitted(Refusal):
    """A privilege is missing, a sandbox forbids the action, or the token of a listener is wrong."""

    status = Exit.NOPERM


class Unsupported(Refusal):
    """The system does not support the action."""

    status = Exit.UNAVAILABLE


class Unreachable(Refusal):
    """A host takes no connection."""

    status = Exit.NOHOST


class KernelError(Refusal):
    """The kernel or a program of the system failed; another try may succeed."""

    status = Exit.OSERR


class Busy(Refusal):
    """A daemon uses the state directory, a probe is unanswered, or a result is partial or a guess: see the message."""

    status = Exit.TEMPFAIL


class Doubtful(Busy):
    """All was done, but the result rests on a guess: measure the path."""


class Unfinished(Busy):
    """Not all connections that were named were seen to: the message says how many, and what to type."""


class Late(Busy):
    """The daemon has not done all of it in time, and may do so later: see its log."""


class StateError(Refusal):
    """A record, another file or standard output cannot be read or written, or another process listens there."""

    status = Exit.IOERR


class LaterRecord(StateError):
    """A record was written by a later version of this program: nothing is changed, and the record stays."""


class RecordDamaged(Refusal):
    """A record is damaged: the message says what to do."""

    status = Exit.DATAERR


class Defect(Refusal):
    """The program has a defect: please report it."""

    status = Exit.SOFTWARE


def is_shortage(error: OSError) -> bool:
    """Whether the system lacks memory or descriptors for the moment: another try may succeed."""
    return error.errno in SHORTAGES


def remedy(error: OSError) -> str:
    """Return what to do about an error of the system, where that is known: the end of a line."""
    if error.errno == errno.EFBIG:
        return "; raise the limit of file sizes (LimitFSIZE=, ulimit -f)"
    if error.errno == errno.EMFILE:
        return "; raise the limit of open files (LimitNOFILE=, ulimit -n)"
    if error.errno == errno.ENOENT and error.filename == NULL:
        return f"; make it: mknod -m 666 {NULL} c 1 3"
    return ""


def unexpected(error: BaseException) -> Refusal:
    """Return an unexpected error as one line: a failure of the system, or a defect of this program."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return KernelError(f"{file}{error.strerror}{remedy(error)}")
    if isinstance(error, OSError | MemoryError):
        return KernelError(what)
    if "can't start new thread" in str(error):
        return KernelError(f"{error}: raise the limit of processes (TasksMax=, ulimit -u)")
    return Defect(f"{what}: this is a defect of the program; please report it")
