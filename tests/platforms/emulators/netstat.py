"""netstat(1) of FreeBSD, macOS and Solaris, for TCP alone.

After usr.bin/netstat/inet.c and inet6.c of FreeBSD 14, with libxo's JSON;
netstat.tproj/inet.c of Apple's network_cmds, with the columns that current systems print;
usr/src/cmd/cmd-inet/usr.bin/netstat/netstat.c of illumos for Solaris, whose own is not public since 2010.
"""

from __future__ import annotations

import json
from typing import NoReturn

from tests.platforms.emulators.kernel import Kernel
from tests.platforms.emulators.wire import Connection, Wire, leave, listen


def main(file: str, arguments: list[str]) -> NoReturn:
    """List what was asked for."""
    wire, kernel = listen(file), Kernel.load(file)
    match kernel.system:
        case "freebsd":
            leave(freebsd(wire, kernel.hz, arguments).encode())
        case "macos":
            leave(macos(wire, arguments).encode())
        case _:
            leave(solaris(wire, arguments).encode())


def flags(arguments: list[str]) -> str:
    """All letters of the options that take no argument."""
    return "".join(each[1:] for each in arguments if each[0] == "-" and each[1] not in "pP-")


# FreeBSD


def freebsd(wire: Wire, hz: int, arguments: list[str]) -> str:
    """libxo's JSON. Without -W an IPv6 address is cut to 16 characters; -x leaves the state out."""
    assert arguments[-4:] == ["-p", "tcp", "--libxo", "json"]
    given = flags(arguments)
    assert "n" in given
    lives = ("on", f"to be asked for {'timers' if 'x' in given else 'states'}")
    shown = [each for each in wire.connections if each.lives in lives and (each.established or "a" in given)]
    sockets = ",".join(freebsd_socket(wire, hz, each, given) for each in shown)
    return f'{{"statistics": {{"socket": [{sockets}]}}}}\n' if shown else '{"statistics": {}}\n'


def freebsd_socket(wire: Wire, hz: int, one: Connection, given: str) -> str:
    """One instance of the list; figures are printed as C does, which need not make JSON."""
    longest = 39 if "W" in given else 16
    fields: dict[str, object] = {"address": f"{one.block:16x}"} if "A" in given else {}
    fields |= {"protocol": "tcp6" if ":" in one.local else "tcp4", "receive-bytes-waiting": 0, "send-bytes-waiting": 0}
    for side, address, port in (("local", one.local, one.local_port), ("remote", one.remote, one.remote_port)):
        words = freebsd_address(address, one.zone)[: longest if ":" in address or "W" not in given else None]
        fields[side] = {"address": words, "port": str(port) if port else "*"}
    if "x" not in given:
        fields["tcp-state"] = f"{one.state:<11}"
        return json.dumps(fields)
    fields |= {f"{side}-{what}": 0 for what in ("mbufs", "clusters") for side in ("receive", "send")}
    timers = {
        "retransmit": milliseconds_left(wire, one.retransmit_at),
        "persist": milliseconds_left(wire, one.persist_at),
        "keepalive": milliseconds_left(wire, one.keepalive_at),
        "msl2": 0,
        "delay-ack": 0,
        "inactivity": inactivity(wire, hz, one),
    }
    printed = ",".join(f'"{name}-timer":{as_c(value)}' for name, value in timers.items())
    return f"{json.dumps(fields)[:-1]},{printed}}}"


def freebsd_address(address: str, zone: str) -> str:
    """As inetname() and inet6name() do."""
    if address in ("0.0.0.0", "::"):
        return "*"
    return f"{address}%{zone}" if zone else address


def milliseconds_left(wire: Wire, at: float) -> int:
    """Of a callout, negative if it is overdue."""
    return round(1000 * (at - wire.now)) if at else 0


def inactivity(wire: Wire, hz: int, one: Connection) -> int:
    """t_rcvtime: 1000 * ticks / hz, where the product wraps around in 32 bits, in `int` or `unsigned`."""
    product = 1000 * round((wire.now - one.heard_at) * hz) % 2**32
    if "signed" in one.process and product >= 2**31:
        return -((2**32 - product) // hz)
    return product // hz


def as_c(milliseconds: int) -> str:
    """`%d.%02d` of milliseconds / 1000 and (milliseconds % 1000) / 10, which truncate towards zero."""
    sign = -1 if milliseconds < 0 else 1
    seconds, rest = divmod(abs(milliseconds), 1000)
    return f"{sign * seconds:d}.{sign * (rest // 10):02d}"


# macOS


def macos(wire: Wire, arguments: list[str]) -> str:
    """Columns; without -l an IPv6 address is cut to 16 characters, without -W anything to its column."""
    assert arguments[-2:] == ["-p", "tcp"]
    given = flags(arguments)
    assert set("nv") <= set(given)
    width = 45 if "l" in given else 22
    lines = [
        "Active Internet connections" + (" (including servers)" if "a" in given else ""),
        f"{'Proto':<5} {'Recv-Q':<6} {'Send-Q':<6}  {'Local Address':<{width}} {'Foreign Address':<{width}} "
        f"{'(state)':<11}      rxbytes      txbytes  rhiwat  shiwat          process:pid    state  options"
        "           gencnt    flags   flags1 usecnt rtncnt fltrs",
    ]
    for one in wire.connections:
        if not one.established and "a" not in given:
            continue
        ends = " ".join(
            f"{macos_end(address, port, one.zone, given):<{width}}"[: None if "W" in given else width]
            for address, port in ((one.local, one.local_port), (one.remote, one.remote_port))
        )
        options = 0x0004 | (0x0008 if one.keepalive else 0) | (0x0002 if one.state == "LISTEN" else 0)
        lines.append(
            f"{'tcp6' if ':' in one.local else 'tcp4':<5} {0:6} {0:6}  {ends} {one.state:<11} "
            f"{one.received:12} {one.sent:12} {131072:7} {131072:7} {one.process:>20}   "
            f"00102 {options:08x} {one.generation:016x} 00000080 04000800      2      0 000000"
        )
    return "".join(f"{line}\n" for line in lines) if len(lines) > 2 else ""


def macos_end(address: str, port: int, zone: str, given: str) -> str:
    """As inetprint() and inet6print() do."""
    longest = 39 if "l" in given or ":" not in address else 16
    return f"{freebsd_address(address, zone)[:longest]}.{port or '*'}"


# Solaris


def solaris(wire: Wire, arguments: list[str]) -> str:
    """Two tables, each with a header where it has rows; with -v two lines a connection."""
    assert arguments[-2:] == ["-P", "tcp"]
    given = flags(arguments)
    assert "n" in given
    shown = [each for each in wire.connections if each.established or "a" in given]
    v4 = [each for each in shown if ":" not in each.local]
    v6 = [each for each in shown if ":" in each.local]
    return solaris_table(v4, "IPv4", 20, given) + solaris_table(v6, "IPv6", 33, given)


def solaris_table(shown: list[Connection], family: str, width: int, given: str) -> str:
    """The connections of one family."""
    if not shown:
        return ""
    verbose = "v" in given
    if verbose:
        header = (
            f"{'Local/Remote Address':<{width}} Swind  Snext     Suna   Rwind  Rnext     Rack    Rto   Mss     State"
        )
        rule = "-" * width + " ----- -------- -------- ----- -------- -------- ----- ----- -----------"
    else:
        header = f"{'   Local Address':<{width}} {'   Remote Address':<{width}} Swind Send-Q Rwind Recv-Q    State"
        rule = f"{'-' * width} {'-' * width} ----- ------ ----- ------ -----------"
    if family == "IPv6":
        header, rule = f"{header}      If", f"{rule} -----"
    rows = []
    for one in shown:
        local = f"{solaris_end(one.local, one.local_port):<{width}}"
        remote = f"{solaris_end(one.remote, one.remote_port):<{width}}"
        state = f"{one.state:<11} {one.zone}" if family == "IPv6" else one.state
        if verbose:
            figures = f"{64128:5} {one.sent % 2**32:08x} {one.sent % 2**32:08x} {64128:5} "
            figures += f"{one.received % 2**32:08x} {one.received % 2**32:08x} {301:5} {1460:5}"
            rows.append(f"{local}\n{remote} {figures} {state}")
        else:
            rows.append(f"{local} {remote} {64128:5} {0:6} {64128:5} {0:6} {state}")
    return f"\nTCP: {family}\n" + "".join(f"{line}\n" for line in (header, rule, *rows))


def solaris_end(address: str, port: int) -> str:
    """As pr_ap() and pr_ap6() do: the zone is in a column of its own."""
    return f"{freebsd_address(address, '')}.{port or '*'}"
