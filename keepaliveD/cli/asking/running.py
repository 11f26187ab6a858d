"""A daemon that runs on this machine: it may see more than somebody who looks once, with other privileges."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from keepaliveD.cli import arguments
from keepaliveD.cli.asking.asking import ask, control_socket, listens
from keepaliveD.cli.printing.fitting import tell
from keepaliveD.cli.starting import file_to_be_read
from keepaliveD.model.errors import KernelError, Misuse, NoInput, NotPermitted, Refusal
from keepaliveD.model.text import printable
from keepaliveD.places import DEFAULT_FILE, LOCK, STATE_DIRECTORY, UNIT
from keepaliveD.records.files import open_own
from keepaliveD.records.locks import listed

Answer = TypeVar("Answer")

ITSELF = Path("/proc/self")
STATE_VARIABLE = "STATE_DIRECTORY"  # systemd's
BY_ITSELF = ("scan", "all", "config", "platform")  # options with which a command does not ask the daemon
PATIENCE = 10.0  # seconds for what a daemon does after a scan that is going on

_too_many_locks: set[Path] = set()  # roots: once is enough for a command to wait for all that /proc/locks says


def note_running_daemon(directory: Path, root: Path, what: str) -> None:
    """Say on standard error whose view was printed, where a daemon has another; `what` was printed."""
    if pid := running(directory, root):
        tell("note", f"{_beside_daemon(pid, what)}; keepalivectl status shows what the daemon uses")


def _beside_daemon(pid: int, what: str) -> str:
    """Return whose view is printed, where a daemon has another; `what` is printed."""
    return f"tcp-keepalived is running (process {pid}) and may know more: {what}"


def running(directory: Path, root: Path) -> int:
    """The process that holds the lock of this state directory; 0 where none does, or none can be seen.

    It is read from /proc/locks (proc_locks(5)): to try the lock could keep a daemon from starting at that moment.
    The holder must be root or the owner: the process id of a daemon that has ended may be another's by now. What is
    said there of the file may fit others (subvolumes of btrfs, layers of overlayfs), which anybody may lock in a
    program of root's, such as su(1). So root, who can see that, believes only who has this very file open and locked.
    Raises KernelError, NotPermitted where it cannot be told, beside very many locks of others.
    """
    try:
        owner, names = _named_in_locks(directory / LOCK)
    except (OSError, ValueError):
        return 0
    itself = _inode(directory / LOCK)

    def is_daemon(pid: int) -> bool:
        return _user(root, pid) in (0, owner) and _locks(root, pid, itself)

    if root not in _too_many_locks:
        try:
            return next((pid for pid, name in _flocks(root) if name in names and is_daemon(pid)), 0)
        except TimeoutError:
            _too_many_locks.add(root)
        except (OSError, ValueError):
            return 0
    return _listening(root, is_daemon) or _untold(directory)


def _listening(root: Path, is_daemon: Callable[[int], bool]) -> int:
    """Return the process that listens at the control socket, if it is the daemon that is meant; else 0."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        if (pid := listens(control_socket(root))) and is_daemon(pid):
            return pid
    return 0


def _untold(directory: Path) -> int:
    """Return 0 where the lock of this state directory is free: it is tried for an instant.

    Raises KernelError where it is not, by a process that cannot be found; NotPermitted where only root may try it.
    """
    why = "/proc/locks is too long to be read in time"
    lock = directory / LOCK
    try:
        with open(open_own(lock, os.O_RDONLY), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return 0
    except BlockingIOError as error:
        said = f"{printable(str(lock))} is locked by a process that cannot be found: {why}"
        raise KernelError(f"{said}; end the program that holds very many file locks, and try again") from error
    except OSError as error:
        refusal = NotPermitted if isinstance(error, PermissionError) else KernelError
        said = f"it cannot be told whether tcp-keepalived runs: {why}"
        raise refusal(f"{said}; {printable(str(lock))} cannot be locked: {error.strerror}; run as root") from error
    return 0


def _locks(root: Path, pid: int, file: tuple[int, int] | None) -> bool:
    """Return whether a process has this very file open and locked, or that may not be seen."""
    process = root / f"proc/{pid}"
    try:
        numbers = os.listdir(process / "fd")
    except PermissionError:
        return True
    except OSError:  # it has ended
        return False
    return any(_inode(process / "fd" / each) == file and _is_locked(process / "fdinfo" / each) for each in numbers)


def _is_locked(about: Path) -> bool:
    """Return whether a descriptor holds a lock of flock(2), by what /proc says of it."""
    try:
        return b"FLOCK" in about.read_bytes()
    except OSError:
        return False


def configuration(pid: int, root: Path) -> Path | None:
    """Return the file that a daemon reads, by its command line; None where that cannot be told."""
    try:
        return _absolute(pid, root, Path(_given(pid, root, "--config") or DEFAULT_FILE))
    except OSError:
        return None


def has_another(pid: int, directory: Path, root: Path) -> bool:
    """Return whether a process has another directory of this name, as in a container; only root can see that."""
    its = root / f"proc/{pid}/root"
    return _inode(its) is not None and _inode(its / directory.relative_to("/")) != _inode(directory)


def _inode(path: Path) -> tuple[int, int] | None:
    """Return device and inode; None where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def state_directory(root: Path) -> Path:
    """Return the directory of the records by default: that of the daemon that answers, if it can be told.

    Without such a daemon, and where STATE_DIRECTORY is set, it is the same as the daemon's own default.
    """
    usual = arguments.state_directory()
    if os.environ.get(STATE_VARIABLE):
        return usual
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        return directory_of(listens(control_socket(root)), root) or usual
    return usual


def directory_of(pid: int, root: Path) -> Path | None:
    """Return the state directory of a daemon, by its command line and environment; None where that cannot be told."""
    try:
        if given := _given(pid, root, "--state-dir"):
            return _absolute(pid, root, Path(given))
        for each in (root / f"proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0"):
            name, _, value = each.partition("=")
            if name == STATE_VARIABLE and value:
                return Path(value.split(":")[0])
    except OSError:
        return None
    return Path(STATE_DIRECTORY)


def elsewhere(directory: Path, root: Path) -> Refusal | None:
    """Return what to refuse where the daemon that answers keeps its records elsewhere, or may; None where it does not.

    Whoever finds nothing in a directory must not say that there is nothing, if a daemon keeps it in another one.
    """
    if running(directory, root):
        return None
    try:
        pid = listens(control_socket(root))
    except NoInput:
        return None
    except (NotPermitted, KernelError) as refusal:
        return refusal
    its = directory_of(pid, root) if pid else None
    if its is None:
        what = f"the state directory of the daemon (process {pid or 'of another PID namespace'})"
        return NotPermitted(f"{what} cannot be told here, and it may not be {printable(str(directory))}: run as root")
    if its.resolve() == directory.resolve():
        return None
    return Misuse(f"the daemon (process {pid}) uses another state directory: give --state-dir {printable(str(its))}")


def _given(pid: int, root: Path, option: str) -> str:
    """Return the last value of an option on the command line of a process, or of its beginning. Raises OSError."""
    words = (root / f"proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    found = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if len(name) > len("--") and option.startswith(name):  # argparse takes the beginning of a name as well
            found = value if equals else following
    return found


def _absolute(pid: int, root: Path, path: Path) -> Path:
    """Return the path as a process means it. Raises OSError: only root sees where others' processes work."""
    return path if path.is_absolute() else Path(os.readlink(root / f"proc/{pid}/cwd")) / path


def followed(directory: Path, root: Path) -> Path | None:
    """Return the file that a running daemon reads, if it is another one than the usual, and can be read here."""
    pid = running(directory, root)
    file = configuration(pid, root) if pid else None
    return file if file and file != DEFAULT_FILE and os.access(file, os.R_OK) else None


def file_for(directory: Path, root: Path) -> Path | None:
    """Return the file that a daemon reads, or will read once it is started; None is the usual one."""
    return followed(directory, root) if running(directory, root) else file_to_be_read(root)


def its_file(options: argparse.Namespace, root: Path) -> Path | None:
    """Return the file of --config, or else what a daemon reads, or will read; None is the usual one."""
    given: Path | None = options.config
    return given or file_for(getattr(options, "state_dir", None) or state_directory(root), root)


def not_followed(directory: Path, root: Path) -> str:
    """Return that a running daemon reads another configuration than is read here, or may; "" where it is the same."""
    pid = running(directory, root)
    file = configuration(pid, root) if pid else DEFAULT_FILE
    if file == DEFAULT_FILE:
        return ""
    here = DEFAULT_FILE if (root / DEFAULT_FILE.relative_to("/")).exists() else "the built-in defaults"
    if file is None:
        return f"this follows {here}, but the daemon (process {pid}) may read another file; run as root to see which"
    if os.access(file, os.R_OK):
        return ""
    return f"this follows {here}, but the daemon (process {pid}) reads {printable(str(file))}; run as root to read it"


def answer_or_why(ask: Callable[[], Answer], directory: Path, root: Path) -> tuple[Answer | None, str]:
    """Return what a daemon answers, or why it cannot be asked: then a command looks for itself."""
    try:
        return ask(), ""
    except (NoInput, NotPermitted, KernelError) as refusal:
        try:
            pid = running(directory, root)
        except (NotPermitted, KernelError) as untold:
            return None, str(untold)
        if pid:
            return None, why_not_asked(pid, root, refusal)
        return None, "no tcp-keepalived runs here" if isinstance(refusal, NoInput) else str(refusal)


def whose_scan(options: argparse.Namespace, root: Path, why: str, engine: str) -> str:
    """Return whose view is printed, after `why` no daemon was asked: a scan by this engine.

    Where a scan was asked for, the options that did so are named, or nothing if there is no daemon. Why the engine is
    not a better one is left to keepalivectl engine.
    """
    said = f"this list is a single scan by keepalivectl ({engine.partition(' (')[0]})"
    if why:
        other = "" if options.config else not_followed(options.state_dir, root)
        return "; ".join(filter(None, (why, said, other)))
    given = " and ".join(f"--{name}" for name in BY_ITSELF if getattr(options, name, None))
    pid = running(options.state_dir, root)
    return f"{_beside_daemon(pid, said)}; for the daemon's view leave {given} out" if pid else ""


def why_not_asked(pid: int, root: Path, refusal: Refusal) -> str:
    """Return why a daemon that runs cannot be asked, and how it could be."""
    path = control_socket(root)
    why = f"{path}: it does not listen there; start it with RUNTIME_DIRECTORY={path.parent}"
    return f"process {pid} runs, but cannot be asked: {why if isinstance(refusal, NoInput) else refusal}"


def control_of(pid: int, root: Path) -> Path | None:
    """Return the control socket of this daemon; None where another one listens, or none."""
    path = control_socket(root)
    try:
        return path if listens(path) == pid else None
    except (NoInput, KernelError):
        return None


def show_it(pid: int, root: Path) -> None:
    """Have a daemon scan, so that it shows what was changed; if it cannot be asked, it does so at its next scan."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        if path := control_of(pid, root):
            ask(path, "Scan", patience=PATIENCE)


def have_reloaded(pid: int, root: Path) -> bool:
    """Have a daemon reload, and scan under what it has read; return whether it can be asked. Raises NotPermitted.

    Raises KernelError, which says what is wrong with the configuration.
    """
    if path := control_of(pid, root):
        for method in ("Reload", "Scan"):
            ask(path, method, patience=PATIENCE)
    return path is not None


def have_recorded(pid: int, root: Path) -> str:
    """Have a daemon write into the arming record what it has armed at connect; return why it has not, or ""."""
    path = control_socket(root)
    try:
        if listens(path) == pid:
            ask(path, "Record", patience=PATIENCE)
            return ""
    except NoInput as refusal:
        return why_not_asked(pid, root, refusal)
    except (NotPermitted, KernelError) as refusal:
        return str(refusal)
    return why_not_asked(pid, root, NoInput(""))


def set_by_reload(pid: int, root: Path) -> str:
    """Return which settings a daemon leaves alone that it sets again at a reload; "" where none, or not known."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError, KeyError, TypeError):
        if path := control_of(pid, root):
            status = ask(path, "Status", patience=PATIENCE)
            left = [one for one in status["settings"] if not one.get("note")]
            differ = [one for one in left if one["stands"] not in (None, one["wanted"])]
            if status["applied"] and differ:
                words = (f"{one['name']} {one['wanted']} (now {one['stands']})" for one in differ)
                return (
                    f"the daemon leaves settings as somebody restored or changed them; a reload sets {', '.join(words)}"
                )
    return ""


def its_log(directory: Path, root: Path) -> str:
    """Return where a running daemon writes its log, as far as that can be seen."""
    pid = running(directory, root)
    if not pid:
        return "no daemon runs now whose own log could be read"
    try:
        words = (root / f"proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        leads_to = os.readlink(root / f"proc/{pid}/fd/2")
    except OSError:
        return f"root sees where the daemon (process {pid}) writes its own log"
    if "--log-format=syslog" in words or ("--log-format", "syslog") in itertools.pairwise(words):
        leads_to = "syslog"
    elif not leads_to.startswith("/"):
        leads_to = f"a {leads_to.partition(':')[0]} of the program that started it"
    return f"the daemon (process {pid}) writes its own log to {printable(leads_to)}"


def how_to_stop(pid: int, root: Path) -> str:
    """Return the command that stops a daemon."""
    return f"kill {pid}" if _runs_outside_unit(pid, root) else "systemctl stop tcp-keepalived"


def how_to_reload(pid: int, root: Path) -> str:
    """Return the command with which a daemon reads its configuration again."""
    return f"kill -HUP {pid}" if _runs_outside_unit(pid, root) else "systemctl reload tcp-keepalived"


def _runs_outside_unit(pid: int, root: Path) -> bool:
    """Return whether a process is seen to be a daemon that is not the unit's."""
    try:
        is_daemon = b"keepalive" in (root / f"proc/{pid}/cmdline").read_bytes().lower()
        in_unit = f"/{UNIT}" in (root / f"proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        is_daemon = in_unit = False  # hidden from us, or numbered otherwise in its container
    return is_daemon and not in_unit


def _user(root: Path, pid: int) -> int | None:
    """Return whom a process belongs to; None where it has ended."""
    try:
        return (root / f"proc/{pid}").stat().st_uid
    except OSError:
        return None


def _named_in_locks(file: Path) -> tuple[int, set[str]]:
    """Return the owner of a file, and how /proc/locks may name it, such as 08:01:1234.

    The device there is that of the mount. stat(2) may tell another one, as on btrfs and overlayfs, which no other file
    system has either; it counts where the mount is not seen, as in a chroot. The file need not be readable.
    Raises OSError, ValueError.
    """
    handle = os.open(file, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        about = (ITSELF / f"fdinfo/{handle}").read_text(encoding="ascii").split()
    finally:
        os.close(handle)
    mount = about[about.index("mnt_id:") + 1].encode()
    # names of others stand there, in which only space, tab, newline and backslash are escaped
    mounts = (line.split(b" ") for line in (ITSELF / "mountinfo").read_bytes().split(b"\n") if line)
    devices = {tuple(map(int, device.split(b":"))) for number, _, device, *_ in mounts if number == mount}
    devices.add((os.major(status.st_dev), os.minor(status.st_dev)))
    return status.st_uid, {f"{major:02x}:{minor:02x}:{status.st_ino}" for major, minor in devices}


def _flocks(root: Path) -> Iterator[tuple[int, str]]:
    """Yield process and file of each exclusive lock of flock(2). Raises OSError, ValueError."""
    for line in listed(root / "proc/locks"):
        match line:
            case [_, "FLOCK", _, "WRITE", pid, file, *_]:
                yield int(pid), file
