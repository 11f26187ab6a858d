"""What would have kept a connection alive: lines of configuration, or why keepalive would not have helped."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from keepaliveD.model.autopsy import Death
from keepaliveD.model.causes import IDLE_AFTER, Cause, Foretold
from keepaliveD.model.duration import span
from keepaliveD.policy.timeouts.scan_interval import scan_interval

SHORTEST_KNOWN = 240.0  # seconds: no product of the catalogue forgets an idle connection sooner
DEFAULT = "default"  # name of the path where no [[path]] matches

PREVENTABLE = (Cause.MIDDLEBOX_IDLE, Cause.SILENT_AFTER_IDLE)
PERHAPS = (Cause.UNKNOWN_TO_PEER,)  # if the connection was idle, and what forgot it was a NAT

NOT_IDLE = "the connection was not idle"
BY_THE_PEER = "the peer ended the connection on purpose"
BY_THIS_HOST = "this host ended the connection"
IN_TIME = "a probe in time would have kept the path from forgetting the connection"
EARLY = (
    f"helps if the path forgot the connection, which no known product does in less than {span(SHORTEST_KNOWN)}; not if "
    "somebody restarted the device or changed its rules"
)
FORGOTTEN_PERHAPS = (  # no rule arms a socket that a short TCP_USER_TIMEOUT would then end in an outage
    "if the path forgot the connection, keepalive of the program's own would have helped "
    "(SO_KEEPALIVE, TCP_KEEPIDLE); else let it set a longer TCP_USER_TIMEOUT"
)
RESET_PERHAPS_BY_A_DEVICE = (  # a load balancer, which may count only data
    "keepalive would have helped if a device on the path ended the connection for its silence, and counts probes; "
    "else see the peer's log"
)
BY_A_NAT = "helps if a NAT forgot the connection; not if the peer lost it"
BY_A_NAT_OR_HERE = "helps if a NAT or this host's own firewall forgot the connection; not if the peer lost it"
THERE_OR_HERE = (
    "helps if the path or this host's own firewall forgot the connection; else correct the rules of this firewall"
)
REJECTED_HERE = ", or this host's own firewall rejected the peer's packets: then correct its rules"
FORGOTTEN_HERE = (
    "this host's own firewall had perhaps forgotten the connection: a probe in time would have kept it, or a longer "
    "timeout there (net.netfilter.nf_conntrack_tcp_timeout_established); else correct its rules"
)
IF_FORGOTTEN: Mapping[Cause, tuple[Cause, str]] = {  # with this cause beside it
    Cause.USER_TIMEOUT: (Cause.SILENT_AFTER_IDLE, FORGOTTEN_PERHAPS),
    Cause.PEER_ABORTED: (Cause.MIDDLEBOX_IDLE, RESET_PERHAPS_BY_A_DEVICE),
}
WITHOUT_KEEPALIVE: Mapping[Cause, str] = {
    Cause.UNKNOWN: "the cause is not known",
    Cause.MIDDLEBOX_BUSY: f"{NOT_IDLE}; ask whoever runs the device why it resets",
    Cause.PATH_DIED: "the path was down, not forgetful; more probes survive a longer outage (keepalive.probes)",
    Cause.KEEPALIVE_GAVE_UP: "the probes were sent and not answered; more probes survive a longer outage "
    "(keepalive.probes)",
    Cause.RETRANSMISSIONS_GAVE_UP: "data was sent and not acknowledged",
    Cause.USER_TIMEOUT: "the program's own TCP_USER_TIMEOUT ended the connection; let it set a longer one",
    Cause.UNREACHABLE: "a router refused the packets; look at its routes and filters",
    Cause.UNKNOWN_TO_PEER: f"{NOT_IDLE}; the peer had lost it, or its firewall refused it",
    Cause.PEER_RESTARTED: "the peer lost its state; let the program reconnect",
    Cause.PEER_ABORTED: f"{BY_THE_PEER}; see its log",
    Cause.PEER_ABORTED_AFTER_CLOSE: f"{BY_THE_PEER}, after this end had closed; the data that was still on its way "
    "is lost",
    Cause.PEER_KEEPALIVE: "this host's answers did not arrive, if the peer's keepalive gave up: look at the way back; "
    "else see the peer's log",
    Cause.PEER_NOT_READING: "the peer was alive, and its program did not read",
    Cause.PEER_CLOSED: BY_THE_PEER,
    Cause.PEER_CLOSED_IDLE: "a service or proxy that closes after idle counts data, not probes; raise its idle "
    "timeout, or let the program send something",
    Cause.WROTE_AFTER_CLOSE: "the peer had closed; the program wrote without noticing",
    Cause.LISTENER_OVERFLOW: "the peer did not accept it; raise its backlog (net.core.somaxconn, listen(2))",
    Cause.MD5_MISMATCH: "one end signs its packets and the other does not; configure the same key at both",
    Cause.LOCAL_KILL: f"{BY_THIS_HOST} by force",
    Cause.LOCAL_FIREWALL: "this host's own firewall or filter dropped or rejected its packets; correct its rules",
    Cause.LOCAL_NETWORK: "its packets did not leave this host; look at the link, the routes (ip route get) "
    "and IPsec policies (ip xfrm policy)",
    Cause.PROGRAM_KILLED: "its program was killed",
    Cause.OUT_OF_MEMORY: "its program was killed for lack of memory",
    Cause.PROGRAM_ENDED: "its program ended",
    Cause.CLOSED_UNREAD: "its program closed it before it had read everything, which resets the peer",
    Cause.LOCAL_ABORT: "its program aborted it (SO_LINGER with 0)",
    Cause.LOCAL_CLOSE: "its program closed it",
}


class Remedy(NamedTuple):
    """Lines of configuration that would have kept the connection alive, if any; and why, or why not."""

    lines: tuple[str, ...]
    because: str


def remedy(death: Death, interval: float = 0.0) -> Remedy:
    """Return what would have kept this connection alive; `interval` is the seconds between two scans at most."""
    if in_vain := _in_vain(death):
        return Remedy((), f"keepalive would not have helped: {in_vain}")
    if death.cause is Cause.LOCAL_FIREWALL and death.hindsight.foretold is Foretold.FORETOLD:
        return Remedy(tuple(_arm(death, death.path)), FORGOTTEN_HERE)
    if because := _why_lines_help(death):
        return Remedy(_lines(death, interval), because)
    if may_be_forgotten(death.cause, death.others) and not death.silence < death.hindsight.survived:
        return Remedy((), IF_FORGOTTEN[death.cause][1])
    here = REJECTED_HERE if death.cause in PERHAPS and _perhaps_here(death) else ""
    return Remedy((), f"keepalive would not have helped: {WITHOUT_KEEPALIVE[death.cause]}{here}")


def _why_lines_help(death: Death) -> str:
    """Return why lines of configuration would have helped, or if what, or "" where they would not."""
    if death.cause in PREVENTABLE:
        return EARLY if _is_early(death) else IN_TIME
    if death.cause in PERHAPS and Cause.NAT_FORGOT in death.others and not death.silence < IDLE_AFTER:
        return BY_A_NAT_OR_HERE if _perhaps_here(death) else BY_A_NAT
    return THERE_OR_HERE if death.cause is Cause.LOCAL_FIREWALL and _perhaps_silent(death) else ""


def _perhaps_here(death: Death) -> bool:
    """Return whether this host's own firewall may have brought the end about that has another cause."""
    return Cause.LOCAL_FIREWALL in death.others


def _perhaps_silent(death: Death) -> bool:
    """Return whether the path may have forgotten a connection of which this host dropped packets, forged ones maybe."""
    quiet = death.silence >= IDLE_AFTER and not death.silence < death.hindsight.survived
    return quiet and Cause.SILENT_AFTER_IDLE in death.others and not (death.both_closed or death.only_data_counts)


def may_be_forgotten(cause: Cause, others: Collection[Cause]) -> bool:
    """Return whether one of these others says that the path forgot a connection which has ended by this cause."""
    return cause in IF_FORGOTTEN and IF_FORGOTTEN[cause][0] in others


def _is_early(death: Death) -> bool:
    """Return whether a reset came after a shorter silence than any known device forgets after, or this path's does."""
    by_reset = death.cause is Cause.MIDDLEBOX_IDLE
    return by_reset and death.silence < min(SHORTEST_KNOWN, death.timeout)


def _in_vain(death: Death) -> str:
    """Return why keepalive helps nothing although a silence may have brought the end about, or ""."""
    if death.both_closed and death.cause in (*PREVENTABLE, *PERHAPS, Cause.USER_TIMEOUT):
        return "both ends had closed the connection"
    if death.silence < death.hindsight.survived and death.cause in (*PREVENTABLE, *PERHAPS):
        return "the connection had survived a longer silence before"
    if death.only_data_counts and death.cause in PREVENTABLE:
        return "its path counts only data; let the program send something"
    return ""


def _lines(death: Death, interval: float) -> tuple[str, ...]:
    if death.timeout <= death.silence:  # the path is configured as it is: only arming was missing
        return tuple(_arm(death, death.path))
    seconds, why = _timeout(death)
    timeout = f'timeout = "{seconds}s"  # {why}'
    often = scan_interval(float(seconds), interval)
    scans = ("[watch]", often, "") if often else ()
    if death.path != DEFAULT:
        return (*scans, f"# in the [[path]] named {_text(death.path)}:", timeout, *_arm(death, death.path))
    name = f"to {death.remote.address}"
    host = ipaddress.ip_network(death.remote.address.partition("%")[0])
    path = ("[[path]]", f"name = {_text(name)}", f'networks = ["{host}"]', timeout)
    return (*scans, *path, "", *_arm(death, name))


def _timeout(death: Death) -> tuple[str, str]:
    """Return an idle timeout after which the path surely still remembers, as seconds, and why it is that.

    It forgot at some time in the silence, and not within one that the connection had survived. It may have forgotten
    another one in a shorter silence before.
    """
    silence = min((each for each in (death.silence, death.shortest) if not math.isnan(each)), default=math.inf)
    if silence >= SHORTEST_KNOWN:
        seconds, why = SHORTEST_KNOWN, "no product that is known forgets a connection sooner"
    elif silence / 2 < death.hindsight.survived <= silence:
        seconds, why = death.hindsight.survived, "the connection had survived such a silence"
    else:
        seconds = silence / 2
        why = f"half of {span(round(silence, 1))}, a silence in which the path forgot"
    return f"{int(seconds)}" if seconds >= 1 else f"{max(seconds, 0.1):.1f}", why


def _arm(death: Death, path: str) -> list[str]:
    unit = [f"unit = {_text(death.owner.unit)}"] if death.owner.unit else []
    return ["[[arm]]", f"path = {_text(path)}", *unit, 'action = "enable"', 'idle = "auto"']


def _text(value: str) -> str:
    """Return a TOML string of printable characters."""
    value = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in value) + '"'
