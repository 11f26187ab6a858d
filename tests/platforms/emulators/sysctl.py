"""sysctl(8) of FreeBSD, DragonFly, macOS, OpenBSD and NetBSD, and the handlers behind it.

After sbin/sysctl/sysctl.c of each; sys/kern/kern_sysctl.c (sysctl_msec_to_ticks) of FreeBSD;
sys/netinet/tcp_usrreq.c (tcpctl_vars, sysctl_tcp_keep) of OpenBSD and NetBSD.
Flags: "2008" exits with 0 after a failed set; "no-boot-id"; "slowhz" is an old OpenBSD,
"forgotten" one whose sysctl(8) no longer knows that name.
"""

from __future__ import annotations

import sys
import time

from tests.platforms.emulators.kernel import Kernel, Request, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

TCP = "net.inet.tcp."
TIMES = (f"{TCP}keepidle", f"{TCP}keepintvl")
SLOWHZ = 2  # PR_SLOWHZ, sys/sys/protosw.h of OpenBSD and NetBSD
OPENBSD_MOST = {f"{TCP}keepidle": 5 * 7200, f"{TCP}keepintvl": 3 * 75}  # seconds
EINVAL, EPERM = "Invalid argument", "Operation not permitted"


def main(file: str, arguments: list[str]) -> NoReturn:
    """`sysctl [-nwx] NAME[=VALUE]`."""
    options = {letter for argument in arguments if argument[0] == "-" for letter in argument[1:]}
    (request,) = (argument for argument in arguments if argument[0] != "-")
    key, equals, value = request.partition("=")

    def work(kernel: Kernel, fault: str) -> int:
        if not equals:
            return get(kernel, key, options)
        setter = {"openbsd": set_openbsd, "netbsd": set_netbsd}.get(kernel.system, set_freebsd)
        return setter(kernel, key, int(value, 0), options, fault)

    serve(file, Request(["sysctl", *arguments], "set" if equals else "get", key, value), work)


def shown(kernel: Kernel, key: str) -> str | None:
    """What is printed of a setting."""
    freebsd = kernel.system in ("freebsd", "dragonfly")
    if key in kernel.values:
        stands = kernel.values[key]
        return str(stands * 1000 // kernel.hz if freebsd and key in TIMES else stands)
    if key == "kern.boot_id" and kernel.system == "freebsd" and "no-boot-id" not in kernel.flags:
        return f"Format: Length:16 Dump:0x{kernel.boot}"
    if key == "kern.bootsessionuuid" and kernel.system == "macos":
        return kernel.boot
    if key == "kern.boottime":
        then = time.asctime(time.gmtime(kernel.boot_time))
        return f"{{ sec = {kernel.boot_time}, usec = 4711 }} {then}" if freebsd else str(kernel.boot_time)
    if key == f"{TCP}slowhz" and (kernel.system == "netbsd" or "slowhz" in kernel.flags):
        return str(SLOWHZ)
    return None


def unknown(kernel: Kernel, key: str) -> int:
    """Complain about a name."""
    last = key.rpartition(".")[2]
    match kernel.system:
        case "openbsd" if last == "slowhz" and "forgotten" not in kernel.flags:
            return fail(f"{key}: value is not available", 0)
        case "openbsd":
            return fail(f"fourth level name {last} in {key} is invalid", 0)
        case "netbsd":
            return fail(f"fourth level name '{last}' in '{key}' is invalid", 1)
        case _:
            return fail(f"unknown oid '{key}'", 1)


def fail(message: str, status: int) -> int:
    """warnx(3), and what the program then exits with."""
    print(f"sysctl: {message}", file=sys.stderr)
    return status


def get(kernel: Kernel, key: str, options: set[str]) -> int:
    """Print one value."""
    value = shown(kernel, key)
    if value is None:
        return unknown(kernel, key)
    print(value if "n" in options else f"{key}: {value}")
    return 0


def set_freebsd(kernel: Kernel, key: str, value: int, options: set[str], fault: str) -> int:
    """FreeBSD and its kin: the old value is printed first, also where the new one is refused."""
    del options
    old = shown(kernel, key)
    if old is None:
        return unknown(kernel, key)
    print(f"{key}: {old}", end="", flush=True)
    value = (value + 2**31) % 2**32 - 2**31  # (int)strtol()
    ticks = value * kernel.hz // 1000 if key in TIMES else value
    refused = EPERM if fault == "forbidden" or not kernel.root else EINVAL if key in TIMES and ticks < 1 else ""
    if refused:
        print()
        return fail(f"{key}={value}: {refused}", 0 if "2008" in kernel.flags else 1)
    kernel.store(key, ticks, fault)
    print(f" -> {shown(kernel, key)}")
    return 0


def set_openbsd(kernel: Kernel, key: str, value: int, options: set[str], fault: str) -> int:
    """OpenBSD: bounded, and an exit status of 0 in any case."""
    del options
    if key not in kernel.values:
        return unknown(kernel, key)
    most = OPENBSD_MOST[key] * (SLOWHZ if "slowhz" in kernel.flags else 1)
    if fault == "forbidden" or not kernel.root:
        return fail(f"{key}: {EPERM}", 0)
    if not 1 <= value <= most:
        return fail(f"{key}: {EINVAL}", 0)
    print(f"{key}: {kernel.values[key]} -> {value}")
    kernel.store(key, value, fault)
    return 0


def set_netbsd(kernel: Kernel, key: str, value: int, options: set[str], fault: str) -> int:
    """NetBSD: wants -w, checks nothing, and prints what was asked for as what stands."""
    if "w" not in options:
        return fail("Must specify -w to set variables", 1)
    if key not in kernel.values:
        return unknown(kernel, key)
    if fault == "forbidden" or not kernel.root:
        return fail(f"{key}: {EPERM}", 1)
    print(f"{key}: {kernel.values[key]} -> {value}")
    kernel.store(key, value, fault)
    return 0
