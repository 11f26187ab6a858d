"""connstat(8) of illumos in its parsable form; usr/src/cmd/connstat/connstat_tcp.c."""

from __future__ import annotations

import sys
from typing import NoReturn

from tests.platforms.emulators.wire import Connection, leave, listen


def main(file: str, arguments: list[str]) -> NoReturn:
    """`connstat -P -o FIELD,... [-e]`: no header, addresses and ports as inet_ntop writes them."""
    wire = listen(file)
    if "-P" in arguments and "-o" not in arguments:
        print('connstat: parsable output requires "-o"', file=sys.stderr)
        leave(b"", 1)
    fields = arguments[arguments.index("-o") + 1].split(",")
    shown = [each for each in wire.connections if each.state == "ESTABLISHED" or "-e" not in arguments]
    leave("".join(f"{','.join(value(each, name) for name in fields)}\n" for each in shown).encode())


def value(one: Connection, name: str) -> str:
    """One field."""
    return {
        "laddr": one.local,
        "lport": str(one.local_port),
        "raddr": one.remote,
        "rport": str(one.remote_port),
        "inbytes": str(one.received),
        "insegs": str(one.received // 100),
        "outbytes": str(one.sent),
        "outsegs": str(one.sent // 100),
        "retranssegs": "0",
        "state": one.state,
    }[name]
