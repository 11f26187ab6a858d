"""What a measurement found: in words, as JSON, and as a [[path]] of the configuration."""

from __future__ import annotations

import datetime
import ipaddress
import json
import math
from collections.abc import Iterator

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import exact, span
from keepaliveD.model.text import connections, printable
from keepaliveD.policy.measuring.measurement import CLEARLY, SURE, Bracket, How, Side
from keepaliveD.policy.measuring.tomography import Device, Elsewhere, contradicts

HOW = {
    How.SILENCE: "probes get no answer (drop)",
    How.RESET: "probes are answered by a reset (reject)",
    How.RESET_UNASKED: "the connection is reset, without a probe",
    How.CLOSED_UNASKED: "the connection is closed, without a probe: a proxy is on the path",
}
ONLY_DATA = 'counts = "data"  # keepalive does not help here; data was not tried\n'
DEVICE = "a device on the path: its packets arrive with another TTL than the peer's"
REVIVED = (
    "a firewall that forgets, and that packets of this host revive; "
    "to see it, run keepalivectl measure --listen at the far end"
)
UNHEARD = (
    "no probe of the peer, not even after {}, while those of this host were answered: "
    "a proxy between answers both ends, or a firewall that packets of this host revive forgets sooner"
)
NO_HOPS = "none seen: this host's own firewall forgets, or the peer's, or a bridge or a router that sets the TTL"
TTL_SET = "not counted: a router passes on packets whose TTL is over, as one that sets the TTL does"


@dataclass(frozen=True, slots=True)
class Found:
    """All that one measurement found; `name` and `address` are those of the far end."""

    name: str
    address: str
    bracket: Bracket
    keepalive_helps: bool | None
    reset_by_peer: bool | None
    outages: int
    speaks: int
    left_open: int
    connections: int
    gone: str
    by_listener: bool
    date: datetime.date
    counted: bool = False  # whether it was tried to count hops
    hop_count: int | None = None
    routers_back: int | None = None  # on the way back
    hops: tuple[str, ...] = ()  # their addresses
    devices: tuple[Device, ...] = ()
    stopped_by: tuple[int, ...] = ()  # hops of which one stops packets of forgotten connections; 0 is this host
    interface: str = ""  # of a link-local address
    losses: tuple[tuple[str, int], ...] = ()  # by when the path had lost its state, and how many connections with that

    @property
    def ways_differ(self) -> bool:
        """Whether the way back has another number of routers than the way there."""
        return self.counted and None not in (self.hop_count, self.routers_back) and self.hop_count != self.routers_back

    @property
    def timeout(self) -> int | None:
        """Return the timeout that is safe to configure, in whole seconds; None where none was found."""
        survived = self.bracket.survived
        if survived is None or self.bracket.forgotten is None or self.bracket.once or survived < 1:
            return None
        return math.floor(survived)


def in_words(found: Found) -> Iterator[str]:
    """Yield the result line by line."""
    bracket = found.bracket
    yield f"path to {printable(found.name)}: {_timeout(bracket)}"
    for label, text in _details(found):
        yield f"  {label.ljust(13)}{text}"
    if found.devices:
        yield ""
        yield " -- ".join(["this host", *(_hop(found, device) for device in found.devices), found.address])


def _hop(found: Found, device: Device) -> str:
    """Return what is known of a device, or of several that cannot be told apart."""
    *most, last = (f"{hop} ({found.hops[hop - 1] or 'unknown address'})" for hop in device.hops)
    name = f"hop {', '.join(most)}{' or ' if most else ''}{last}"
    if device.forgotten is not None:
        after = _up(device.forgotten) if device.survived is None else _down(device.survived)
        how = {How.SILENCE: " (drop)", How.RESET: " (reject)"}.get(device.how or How.RESET_UNASKED, "")
        return f"{name} forgets after {after}{how}"
    if device.survived is None:
        return f"{name} unknown"
    return f"{name} > {_down(device.survived)}{' or hidden' if device.hidden else ''}"


def _elsewhere(device: Device) -> str:
    """Return what may forget in place of these hops."""
    *most, last = (each.value for each in device.elsewhere)
    *hops, hop = map(str, device.hops)
    what, where = f"{', '.join(most)}{' or ' if most else ''}{last}", f"{', '.join(hops)}{' or ' if hops else ''}{hop}"
    return f"{what} in place of hop {where}"


def _stopped_by(found: Found) -> str:
    """Return which hop stops packets, or all of which one does: the peer's answers may stop on the way back."""
    peer = f"{Elsewhere.PEER.value} or {Elsewhere.WAY_BACK.value}"
    names = {0: "this host's own firewall", len(found.hops) + 1: peer}
    return " or ".join(names.get(hop) or _name(found, hop) for hop in found.stopped_by)


def _name(found: Found, hop: int) -> str:
    return f"hop {hop} ({found.hops[hop - 1] or 'unknown address'})"


def _timeout(bracket: Bracket) -> str:
    if bracket.forgotten is None or bracket.unheard is not None:
        if bracket.survived is None:
            return "nothing is known"
        if bracket.closes is not None:
            return f"does not forget within {_down(bracket.survived)}: the server closes before more can be known"
        return f"does not forget within {_down(bracket.survived)}"
    if bracket.once:
        return f"forgets by {_up(bracket.forgotten)} without a packet, or lost its state once"
    if bracket.survived is None:
        return f"forgets within {_up(bracket.forgotten)}"
    return f"forgets after {_down(bracket.survived)} to {_up(bracket.forgotten)} without a packet"


def _details(found: Found) -> Iterator[tuple[str, str]]:
    bracket = found.bracket
    if bracket.survived is not None:
        yield "survived", f"{_down(bracket.survived)}, by {connections(bracket.survivors)}{_doubt(found)}"
    if bracket.survived is not None and bracket.forgotten is None and not found.by_listener:
        yield "not seen", REVIVED
    if bracket.unheard is not None:
        yield "not heard", UNHEARD.format(_up(bracket.unheard))
    elif bracket.forgotten is not None and bracket.how is not None:
        yield "forgotten", f"after {_up(bracket.forgotten)}: {HOW[bracket.how]}"
    if found.reset_by_peer is not None:
        yield "reset by", "the peer, or a device as far away" if found.reset_by_peer else DEVICE
    if found.stopped_by:
        yield "stopped by", f"{_stopped_by(found)}: packets of a forgotten connection get no farther"
    if perhaps := [_elsewhere(device) for device in found.devices if device.elsewhere]:
        yield "perhaps", "; ".join(perhaps)
    yield from _way(found)
    if bracket.several_devices and bracket.longest_survivor is not None:
        longest = _down(bracket.longest_survivor)
        yield "devices", f"several: some connections survived {longest}; the shortest timeout counts"
    if bracket.revived_by is not None and bracket.unheard is None:
        one, other = ("this host", "the peer") if bracket.revived_by is Side.HERE else ("the peer", "this host")
        yield "revived", f"by a packet of {one}; until then packets of {other} are lost"
    yield from _keepalive(found)
    yield from _circumstances(found)
    yield "made", f"{found.connections} connections, of which {bracket.tests} were left quiet"


def _way(found: Found) -> Iterator[tuple[str, str]]:
    if found.counted and found.hop_count is None:
        yield "hops", "not counted: the peer did not answer, or is too far away"
    elif found.counted and not found.hop_count:
        yield "hops", TTL_SET if found.ways_differ else NO_HOPS
    elif found.ways_differ:
        yield "way back", f"{found.routers_back} routers, not {found.hop_count}: hops are tested from this end alone"
    if found.bracket.forgotten is not None and contradicts(found.devices, found.bracket.forgotten):
        yield "map", "wrong: no hop forgets as soon as the path: the way back is another one, or there are several"


def _circumstances(found: Found) -> Iterator[tuple[str, str]]:
    bracket = found.bracket
    if bracket.closes is not None:
        yield "server", f"closes after {span(bracket.closes)}{_recommendation(found)}"
    if found.speaks:
        yield "server", f"sent packets by itself, again and again, on {connections(found.speaks)}{_no_longer(bracket)}"
    if found.outages:
        yield "outages", f"{found.outages}; what they touched was not counted"
    for by, count in found.losses:
        yield "lost state", f"by {by} the path forgot {connections(count)} at once, whatever their silence: not counted"
    if bracket.once:
        yield "undecided", "connections were forgotten in one round only, so no timeout is named; measure again"
    if bracket.unexplained:
        yield "unexplained", f"{connections(bracket.unexplained)} ended early, without a pattern: not counted"
    if found.left_open:
        yield "left open", f"{connections(found.left_open)} at most, which the peer holds unless it ended them itself"
    if found.gone:
        yield "ended early", printable(found.gone)


def _no_longer(bracket: Bracket) -> str:
    """Say what follows from a service's packets, unless other connections had longer silences."""
    broken, survived = bracket.breaks or 0.0, bracket.survived or 0.0
    return ": longer silences do not happen there" if survived <= broken * CLEARLY else ""


def _keepalive(found: Found) -> Iterator[tuple[str, str]]:
    if found.keepalive_helps:
        yield "keepalive", "helps: a connection with keepalive outlived the timeout"
    elif found.keepalive_helps is False:
        yield "keepalive", "does NOT help: the path forgot connections with keepalive, too; data was not tried"


def _doubt(found: Found) -> str:
    """Say what so few connections leave open."""
    if found.bracket.survivors >= SURE or found.bracket.several_devices:
        return ""
    return f" (fewer than {SURE}: a device that few connections take may forget earlier)"


def _recommendation(found: Found) -> str:
    return "" if found.by_listener else "; to find longer timeouts, run keepalivectl measure --listen at the far end"


def _down(seconds: float) -> str:
    return span(math.floor(seconds * 10) / 10 if seconds < 10 else math.floor(seconds))


def _up(seconds: float) -> str:
    return span(math.ceil(seconds * 10) / 10 if seconds < 10 else math.ceil(seconds))


def as_toml(found: Found, name: str = "") -> str:
    """Return the [[path]] for the configuration; nothing where no timeout was found."""
    if found.timeout is None or found.bracket.forgotten is None:
        return ""
    counts = ONLY_DATA if found.keepalive_helps is False else ""
    survived, forgotten = exact(found.timeout), exact(math.ceil(found.bracket.forgotten))
    table = path_table(name or default_name(found.name), found.address, found.interface, found.timeout, found.date)
    comment = f"# keepalivectl measure {printable(found.name)}: survived {survived}, forgotten by {forgotten}"
    return f"{comment}\n{table}{counts}"


def path_table(name: str, address: str, interface: str, timeout: int, date: datetime.date) -> str:
    """Return a [[path]] to one address; the timeout is seconds."""
    network = ipaddress.ip_network(address.partition("%")[0])
    more = f"interface = {_string(interface)}\n" if interface else ""
    return (
        "[[path]]\n"
        f"name = {_string(name)}\n"
        f'networks = ["{network}"]  # widen it to all peers behind the same firewall\n'
        f'timeout = "{timeout}s"\n{more}'
        f"measured = {date.isoformat()}\n"
    )


def default_name(target: str) -> str:
    """Return the name of the path, from the target's HOST:PORT."""
    return f"to {printable(target.rpartition(':')[0].strip('[]'))}"


def _string(text: str) -> str:
    """Return a TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)


def as_json(found: Found, name: str = "") -> str:
    """Return an object; times are seconds, null is unknown."""
    bracket = found.bracket
    return json.dumps(
        {
            "target": found.name,
            "address": found.address,
            "survived": _number(bracket.survived),
            "forgotten": None if bracket.unheard else _number(bracket.forgotten),
            "how": bracket.how.value if bracket.how and not bracket.unheard else None,
            "unheard": _number(bracket.unheard),
            "reset_by": None if found.reset_by_peer is None else "peer" if found.reset_by_peer else "device",
            "survivors": bracket.survivors,
            "several_devices": bracket.several_devices,
            "longest_survivor": _number(bracket.longest_survivor),
            "revived_by": bracket.revived_by.value if bracket.revived_by and not bracket.unheard else None,
            "keepalive_helps": found.keepalive_helps,
            "server_closes": _number(bracket.closes),
            "server_sent": found.speaks,
            "outages": found.outages,
            "void": bracket.void,
            "unexplained": bracket.unexplained,
            "losses_of_state": [{"by": by, "connections": count} for by, count in found.losses],
            "undecided": bracket.once,
            "left_open": found.left_open,
            "tests": bracket.tests,
            "connections": found.connections,
            "ended_early": found.gone or None,
            "date": found.date.isoformat(),
            "hop_count": found.hop_count,
            "routers_back": found.routers_back,
            "hops": [
                {
                    "hops": device.hops,
                    "addresses": [found.hops[hop - 1] or None for hop in device.hops],
                    "survived": _number(device.survived),
                    "forgotten": _number(device.forgotten),
                    "how": device.how.value if device.how else None,
                    "hidden": device.hidden,
                    "or": [each.value for each in device.elsewhere],
                }
                for device in found.devices
            ],
            "stopped_by": found.stopped_by or None,
            "path": as_toml(found, name) or None,
        },
        indent=1,
    )


def _number(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
