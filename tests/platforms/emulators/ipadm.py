"""ipadm(8) of Solaris 11 and illumos: show-prop and set-prop of tcp.

After usr/src/cmd/cmd-inet/usr.sbin/ipadm/ipadm.c of illumos; what is set without -t is also kept for
the next boot, under "persistent:" here.
"""

from __future__ import annotations

import sys

from tests.platforms.emulators.kernel import Kernel, Request, serve
from tests.platforms.emulators.ndd import LIBIPADM, limits, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(file: str, arguments: list[str]) -> NoReturn:
    """`ipadm show-prop -c -o FIELD -p NAME tcp` or `ipadm set-prop [-t] -p NAME=VALUE tcp`."""
    verb = arguments[0]
    name, _, value = arguments[arguments.index("-p") + 1].partition("=")

    def work(kernel: Kernel, fault: str) -> int:
        if verb == "show-prop":
            return show(kernel, name, arguments[arguments.index("-o") + 1])
        complaint = "absent" if name not in kernel.values else put(kernel, name, value, fault)
        if complaint:
            print(f"ipadm: set-prop: {name}: {LIBIPADM[complaint]}", file=sys.stderr)
            return 1
        if "-t" not in arguments:
            kernel.values[f"persistent:{name}"] = int(value)
        return 0

    serve(file, Request(["ipadm", *arguments], "get" if verb == "show-prop" else "set", name, value), work)


def show(kernel: Kernel, name: str, field: str) -> int:
    """Print one field of a property; the message of an unknown one lacks a colon."""
    if name not in kernel.values:
        print(f"ipadm: warning: cannot get property '{name}' for 'tcp'{LIBIPADM['absent']}", file=sys.stderr)
        return 1
    lowest, highest = limits(kernel, name)
    print(f"{lowest}-{highest}" if field == "possible" else kernel.values[name])
    return 0
