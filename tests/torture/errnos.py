"""Which errors are plausible of which system call: those of its manual page that a sound program can meet.

A call that is not told of gets OTHERS. Left out are those that cannot fail, those whose failure the C library takes for
its own bug and aborts (futex), and brk, which answers with an address, not with an error.
"""

from __future__ import annotations

import re

OTHERS = ("ENOMEM", "EPERM", "EIO")
INFALLIBLE = re.compile(
    r"exit|exit_group|execve|get(pid|tid|ppid|pgid|pgrp|uid|euid|gid|egid)|get(resuid|resgid)|set_tid_address"
    r"|set_robust_list|rseq|arch_prctl|rt_sigreturn|rt_sigaction|rt_sigprocmask|sigaltstack|uname|sysinfo|umask"
    r"|gettimeofday|clock_gettime|clock_getres|sched_yield|restart_syscall|lseek|munmap|alarm|setitimer|futex|brk"
)
AGAIN = ("EINTR", "EAGAIN")  # whoever gets these tries again, for ever if need be: they come once

_PLACES = ("EACCES", "EIO", "ENOMEM", "ELOOP")
_OPENED = ("EMFILE", "ENFILE", "ENOMEM")
_CHANGED = ("EACCES", "EIO", "ENOSPC", "EROFS")
ERRNOS: dict[str, tuple[str, ...]] = {
    "open": ("EACCES", "EMFILE", "ENFILE", "EIO", "ENOMEM", "EINTR"),
    "openat": ("EACCES", "EMFILE", "ENFILE", "EIO", "ENOMEM", "ENOSPC", "EINTR"),
    "read": ("EIO", "EINTR", "ENOMEM"),
    "pread64": ("EIO", "EINTR", "ENOMEM"),
    "write": ("ENOSPC", "EIO", "EPIPE", "EDQUOT", "EINTR", "EAGAIN"),
    "pwrite64": ("ENOSPC", "EIO", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"),
    "fdatasync": ("EIO", "ENOSPC", "EDQUOT"),
    "ftruncate": ("EIO", "EINTR", "ENOSPC"),
    "fallocate": ("EIO", "ENOSPC", "EOPNOTSUPP"),
    "close": ("EIO", "EINTR"),
    "fstat": ("EIO", "ENOMEM"),
    "stat": _PLACES,
    "lstat": _PLACES,
    "newfstatat": _PLACES,
    "statx": _PLACES,
    "access": _PLACES,
    "faccessat2": _PLACES,
    "readlink": _PLACES,
    "readlinkat": _PLACES,
    "getcwd": ("EACCES", "ENOENT", "ENOMEM"),
    "getdents64": ("EIO", "ENOENT", "ENOMEM"),
    "statfs": ("EACCES", "EIO"),
    "mkdir": (*_CHANGED, "EMLINK"),
    "rename": _CHANGED,
    "renameat": _CHANGED,
    "renameat2": _CHANGED,
    "unlink": _CHANGED,
    "unlinkat": _CHANGED,
    "link": _CHANGED,
    "linkat": _CHANGED,
    "rmdir": _CHANGED,
    "chmod": ("EPERM", "EIO", "EROFS"),
    "fchmod": ("EPERM", "EIO", "EROFS"),
    "flock": ("ENOLCK", "EINTR"),
    "fcntl": ("EMFILE", "ENOMEM"),
    "ioctl": ("EIO",),
    "dup": _OPENED,
    "dup2": _OPENED,
    "dup3": _OPENED,
    "pipe2": _OPENED,
    "eventfd2": _OPENED,
    "signalfd4": _OPENED,
    "timerfd_create": _OPENED,
    "timerfd_settime": ("EINVAL",),
    "epoll_create1": _OPENED,
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_wait": ("EINTR",),
    "epoll_pwait": ("EINTR",),
    "poll": ("EINTR", "ENOMEM"),
    "ppoll": ("EINTR", "ENOMEM"),
    "select": ("EINTR", "ENOMEM"),
    "pselect6": ("EINTR", "ENOMEM"),
    "rt_sigtimedwait": ("EINTR", "EAGAIN"),
    "clock_nanosleep": ("EINTR",),
    "nanosleep": ("EINTR",),
    "wait4": ("EINTR", "ECHILD"),
    "mmap": ("ENOMEM", "EAGAIN"),
    "mremap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "madvise": ("ENOMEM", "EINVAL"),
    "mlock": ("ENOMEM", "EPERM"),
    "clone": ("EAGAIN", "ENOMEM", "EPERM"),
    "clone3": ("EAGAIN", "ENOMEM", "ENOSYS", "EPERM"),
    "vfork": ("EAGAIN", "ENOMEM"),
    "prlimit64": ("EPERM",),
    "getrlimit": ("EPERM",),
    "setrlimit": ("EPERM",),
    "prctl": ("EPERM", "EINVAL"),
    "capget": ("EPERM",),
    "sched_getaffinity": ("EINVAL", "EPERM"),
    "sched_setaffinity": ("EINVAL", "EPERM"),
    "getrandom": ("EINTR",),
    "socket": ("EACCES", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EAFNOSUPPORT", "EPROTONOSUPPORT"),
    "socketpair": _OPENED,
    "bind": ("EACCES", "EADDRINUSE", "ENOMEM"),
    "connect": ("EACCES", "ECONNREFUSED", "ENOENT", "EINTR"),
    "sendto": ("ENOBUFS", "ENOMEM", "ECONNREFUSED", "EPERM", "EINTR"),
    "sendmsg": ("ENOBUFS", "ENOMEM", "ECONNREFUSED", "EPERM", "EINTR"),
    "recvfrom": ("ENOBUFS", "ENOMEM", "ECONNREFUSED", "EINTR"),
    "recvmsg": ("ENOBUFS", "ENOMEM", "ECONNREFUSED", "EINTR"),
    "getsockopt": ("EPERM", "ENOPROTOOPT", "ENOMEM"),
    "setsockopt": ("EPERM", "ENOPROTOOPT", "ENOMEM", "EINVAL"),
    "getsockname": ("ENOBUFS",),
    "getpeername": ("ENOTCONN", "ENOBUFS"),
    "setns": ("EPERM", "EINVAL", "ENOMEM"),
    "unshare": ("EPERM", "ENOMEM", "ENOSPC"),
    "bpf": ("EPERM", "ENOMEM", "E2BIG", "EINVAL", "EAGAIN", "ENOSPC", "EBUSY"),
    "perf_event_open": ("EACCES", "EPERM", "EMFILE"),
    "pidfd_open": ("ESRCH", "EMFILE", "ENFILE", "ENOMEM"),
    "pidfd_getfd": ("EPERM", "ESRCH", "EBADF", "EMFILE", "ENFILE"),
    "kcmp": ("EPERM", "ESRCH"),
}


def plausible(call: str) -> tuple[str, ...]:
    """The names of the errors."""
    return () if INFALLIBLE.fullmatch(call) else ERRNOS.get(call, OTHERS)
