"""ndd(1M) of Solaris 10, Solaris 11, illumos and HP-UX, and the kernel's checks behind it.

After usr/src/cmd/cmd-inet/usr.sbin/ndd.c of illumos, whose do_getset() is the old one, and
usr/src/lib/libipadm/common/libipadm.c (messages), usr/src/uts/common/inet/tunables.c (mod_set_uint32).
Unverified: HP-UX's checks, and its words of failure, which are the old ones here.
"""

from __future__ import annotations

import sys

from tests.platforms.emulators.kernel import Kernel, Request, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

TEN_DAYS = 864_000_000
UINT_MAX = 2**32 - 1


def main(file: str, arguments: list[str]) -> NoReturn:
    """`ndd -get /dev/tcp NAME` or `ndd -set /dev/tcp NAME VALUE`."""
    verb, device, name, *rest = arguments
    value = rest[0] if rest else ""

    def work(kernel: Kernel, fault: str) -> int:
        if device != "/dev/tcp":
            print(f"open of {device} failed: No such file or directory")
            return 1
        key = f"_{name.removeprefix('tcp_')}"
        complaint = "" if key in kernel.values else "absent"
        if not complaint and verb == "-get":
            print(kernel.values[key])
        elif not complaint:
            complaint = put(kernel, key, value, fault)
        return complain(kernel, complaint) if complaint else 0

    serve(file, Request(["ndd", *arguments], verb[1:], name, value), work)


def limits(kernel: Kernel, key: str) -> tuple[int, int]:
    """The range of a setting."""
    if key == "_keepalive_interval":
        return (1000 if "one-second" in kernel.flags else 10_000), TEN_DAYS
    return 0, UINT_MAX


def put(kernel: Kernel, key: str, value: str, fault: str) -> str:
    """Set it, or say what is wrong: "forbidden", "invalid" or "range"."""
    if fault == "forbidden" or not kernel.root:
        return "forbidden"
    if not value.isdecimal():
        return "invalid"
    lowest, highest = limits(kernel, key)
    if not lowest <= int(value) <= highest:
        return "range"
    kernel.store(key, int(value), fault)
    return ""


def complain(kernel: Kernel, complaint: str) -> int:
    """In the words and on the stream of this version."""
    if kernel.system == "illumos":
        print(f"operation failed: {LIBIPADM[complaint]}", file=sys.stderr)
    elif complaint == "absent":
        print("name is non-existent for this module\nfor a list of valid names, use name '?'")
    else:
        print(f"operation failed: {'Not owner' if complaint == 'forbidden' else 'Invalid argument'}")
    return 1


LIBIPADM = {
    "absent": "Unknown property",
    "range": "Value is outside the allowed range",
    "invalid": "Invalid argument provided",
    "forbidden": "Insufficient user authorizations",
}
