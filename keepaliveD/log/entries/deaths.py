"""Log entries about connections that ended: one for each, or a summary for many that ended alike."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping

from keepaliveD.log.entries.entry import INFO, NOTICE, WARNING, Entry, Value
from keepaliveD.model.autopsy import Alike, Common, Death
from keepaliveD.model.causes import EXPECTED, IDLE_AFTER, Cause, Foretold
from keepaliveD.model.duration import span
from keepaliveD.model.text import quoted
from keepaliveD.policy.autopsy.deaths import CERTAIN
from keepaliveD.policy.autopsy.remedies import Remedy, may_be_forgotten, remedy

LIKELY = 0.8  # of confidence
DIFFERS = "differs"  # whether many were foretold, where there are too many kinds of ends to keep them apart
CHOSEN = {Cause.PEER_ABORTED_AFTER_CLOSE, Cause.WROTE_AFTER_CLOSE}
ON_PURPOSE = CHOSEN | {Cause.PEER_ABORTED, Cause.LOCAL_KILL, Cause.PROGRAM_KILLED, Cause.OUT_OF_MEMORY}

EXPLANATIONS: Mapping[Cause, str] = {
    Cause.UNKNOWN: "Nothing was seen that tells what ended the connection.",
    Cause.MIDDLEBOX_IDLE: "A device on the path had forgotten the quiet connection, and answered its next packet with "
    "a reset. Its hop limit says that the peer did not send it, unless the route has changed since.",
    Cause.MIDDLEBOX_BUSY: "A device on the path reset a connection that was not quiet: an intrusion prevention "
    "system, a policy, a full table or a restart. Ask whoever runs the device at that hop.",
    Cause.SILENT_AFTER_IDLE: "Nothing that was sent after a long silence was answered: presumably a device on "
    "the path had forgotten the connection, and drops its packets. Or the path or the peer went down meanwhile.",
    Cause.PATH_DIED: "The packets of a connection that was not quiet, or whose probes had been answered, were no "
    "longer answered: a link, a router or the peer went down.",
    Cause.KEEPALIVE_GAVE_UP: "The peer answered none of the keepalive probes.",
    Cause.RETRANSMISSIONS_GAVE_UP: "The peer did not acknowledge data, however often it was sent again.",
    Cause.USER_TIMEOUT: "The peer did not answer for longer than the TCP_USER_TIMEOUT that the program has set.",
    Cause.UNREACHABLE: "A router said that the peer cannot be reached.",
    Cause.UNKNOWN_TO_PEER: "The peer, or something at its distance, answered that it does not know the connection: it "
    "restarted, its address is now another host's, its own firewall rejects it, or a NAT in between forgot it.",
    Cause.PEER_RESTARTED: "The peer began a new connection with the ports of this one: it had lost its state.",
    Cause.PEER_ABORTED: "The peer's own socket sent the reset: its program was killed or closed the connection with "
    "data unread, or a proxy or load balancer there gave it up.",
    Cause.PEER_ABORTED_AFTER_CLOSE: "This end had closed while data was on its way; the peer answered with a reset.",
    Cause.PEER_KEEPALIVE: "The peer had sent keepalive probes, got no answers, and gave the connection up: its packets "
    "arrive here, and the answers do not arrive there.",
    Cause.PEER_NOT_READING: "The peer was alive, but its program did not read, until this host gave up.",
    Cause.PEER_CLOSED: "The peer closed the connection in the ordinary way.",
    Cause.PEER_CLOSED_IDLE: "The peer, or a proxy that stands for it, closed the connection after it was quiet.",
    Cause.WROTE_AFTER_CLOSE: "The peer had closed; the program wrote to the connection all the same.",
    Cause.LISTENER_OVERFLOW: "The peer's queue of new connections was full, so it reset this one before a byte passed.",
    Cause.MD5_MISMATCH: "One end signs its packets by TCP-MD5, and the other does not, or with another key.",
    Cause.LOCAL_KILL: "A program of this host destroyed the connection, as ss -K does.",
    Cause.LOCAL_FIREWALL: "The firewall of this host itself, or another of its filters, dropped or rejected packets of "
    "the connection.",
    Cause.LOCAL_NETWORK: "Packets did not leave this host: a link is down, a route is missing, or a policy of IPsec "
    "blocks them.",
    Cause.PROGRAM_KILLED: "The program that held the connection was ended by a signal.",
    Cause.OUT_OF_MEMORY: "The kernel killed the program that held the connection, because memory was exhausted.",
    Cause.PROGRAM_ENDED: "The program that held the connection ended without closing it.",
    Cause.CLOSED_UNREAD: "The program closed the connection before it had read everything, so the peer got a reset.",
    Cause.LOCAL_ABORT: "The program closed the connection with a reset on purpose (SO_LINGER with 0).",
    Cause.LOCAL_CLOSE: "The program closed the connection in the ordinary way.",
}


def of_deaths(reports: Iterable[Alike], interval: float = 0.0) -> Iterator[Entry]:
    """Yield an entry for each connection, or one for many that ended alike.

    `interval` is the seconds between two scans at most.
    """
    for alike in reports:
        if alike.is_summary:
            yield _summary(alike, interval)
        else:
            yield from (_single(death, interval) for death in alike.examples)


def confidence_words(confidence: float, others: Iterable[object] = ()) -> str:
    """Return how sure a cause is, in words."""
    if confidence >= CERTAIN and not tuple(others):
        return "certain"
    if confidence > LIKELY:
        return "very likely"
    return "likely" if confidence >= LIKELY else "possibly"


def foretold_words(foretold: Foretold, cause: Cause, others: Collection[Cause], *, has_lines: bool) -> str:
    """Return whether an end was foretold, in words that agree with its remedy.

    `has_lines` says that the remedy is configuration. Where silence may have brought the end about, this says on what
    that depends: what could have been prevented must not read as if it could not.
    """
    if foretold is not Foretold.NOT_FORESEEABLE:
        return foretold.label
    if cause is Cause.PEER_CLOSED_IDLE:
        return f"{foretold.label}: this host does not know the peer's own idle timeout"
    if has_lines and cause is Cause.UNKNOWN_TO_PEER:
        return f"{foretold.label}, unless a NAT forgot it"
    if has_lines or may_be_forgotten(cause, others):
        return f"{foretold.label}, unless the path forgot it"
    return foretold.label


def _single(death: Death, interval: float) -> Entry:
    found = remedy(death, interval)
    return Entry(
        "died",
        _priority(death),
        f"{_who(death)}{death.local} -> {death.remote}: ended: {_what(death, found)}; {_advice(found)}",
        {
            **_cause(death, found),
            **_place(death, Common.UNIT | Common.PATH),
            "KEEPALIVE_LOCAL_ADDRESS": death.local.address,
            "KEEPALIVE_LOCAL_PORT": death.local.port,
            "KEEPALIVE_REMOTE_ADDRESS": death.remote.address,
            "KEEPALIVE_REMOTE_PORT": death.remote.port,
            "KEEPALIVE_NETNS": death.netns,
            "KEEPALIVE_COOKIE": death.cookie,
            "KEEPALIVE_UID": death.uid,
            "KEEPALIVE_EVIDENCE": "\n".join(death.evidence),
            **_process(death),
            **_forecast(death),
        },
        _below(found),
    )


def _summary(alike: Alike, interval: float) -> Entry:
    """Return an entry for many: what it says before "for example" is true of all of them, what follows only of one."""
    death, common = alike.examples[0], alike.common
    found = remedy(death, interval)
    more, within = ("more ", f" within {span(round(alike.seconds))}") if alike.seconds else ("", "")
    plural = "" if alike.count == 1 else "s"
    on_path, told = "", ""
    if Common.PATH in common:
        at_hop = f" at hop {death.hop}" if death.hop else ""
        on_path, told = f" on path {quoted(death.path)}", f"{at_hop} ({_foretold(death, found)})"
    return Entry(
        "died",
        _priority(death),
        f"{alike.count} {more}connection{plural}{_of_owner(death, common)}{on_path} ended{within}: "
        f"{death.cause.label}{told}; "
        f"for example {_example(death, found, common)}; {_advice(found)}",
        {"KEEPALIVE_COUNT": alike.count, **_cause(death, found), **_place(death, common)},
        _below(found),
    )


def _of_owner(death: Death, common: Common) -> str:
    """Return whose many are, to follow their number: their unit; where it is not known, their user."""
    if Common.UNIT in common and death.owner.unit:
        return f" of {quoted(death.owner.unit)}"
    return f" of uid {death.uid}" if Common.USER in common else ""


def _example(death: Death, found: Remedy, common: Common) -> str:
    """Return one of many, with what it need not have in common with the others."""
    ends = f"{death.local} -> {death.remote}"
    if Common.PATH in common:
        return f"{ends}{_killer(death)}{_quiet(death)} ({_sure(death)})"
    of_path = f" on path {quoted(death.path)}{_where(death)}"
    return f"{_who(death)}{ends}{of_path}{_killer(death)}{_quiet(death)} ({_sure(death)}; {_told(death, found)})"


def _who(death: Death) -> str:
    """Return process and unit, as far as they are known, to begin a line with."""
    owner = death.owner
    name, pid = (owner.process, owner.pid) if owner.pid else ("", 0)
    process = f"{quoted(name)}[{pid}] " if pid else ""
    return process + (f"({quoted(owner.unit)}) " if owner.unit else "")


def _what(death: Death, found: Remedy) -> str:
    """Return the cause, how sure it is, what else it may be, and whether it was foretold."""
    how = f"{_where(death)}{_killer(death)}{_quiet(death)}"
    return f"{death.cause.label}{how} ({_sure(death)}; {_told(death, found)})"


def _where(death: Death) -> str:
    return f" at hop {death.hop}" + (f" of {death.peer_hop}" if death.peer_hop else "") if death.hop else ""


def _killer(death: Death) -> str:
    return f" by {death.closer}[{death.closer_pid}]" if death.closer and death.cause is Cause.LOCAL_KILL else ""


def _quiet(death: Death) -> str:
    return f", quiet for {span(_rounded(death.silence))}" if death.silence >= IDLE_AFTER else ""


def _sure(death: Death) -> str:
    perhaps = f", or {death.others[0].label}" if death.others else ""
    return confidence_words(death.confidence, death.others) + perhaps


def _told(death: Death, found: Remedy) -> str:
    is_foretold = death.hindsight.foretold is Foretold.FORETOLD
    before = f" {span(_rounded(death.hindsight.warned_before))} before" if is_foretold else ""
    return _foretold(death, found) + before


def _foretold(death: Death, found: Remedy) -> str:
    return foretold_words(death.hindsight.foretold, death.cause, death.others, has_lines=bool(found.lines))


def _rounded(seconds: float) -> float:
    """Return a time as a field has it, so that keepalivectl, which reads the field, says the same as the message."""
    return round(seconds, 1)


def _advice(found: Remedy) -> str:
    """Return the remedy, or what introduces the lines that are one."""
    return f"to prevent it ({found.because}), configure:" if found.lines else found.because


def _below(found: Remedy) -> tuple[str, ...]:
    """Return the lines of configuration, none of them empty: to a log that is what ends an entry."""
    return tuple(filter(None, found.lines))


def _priority(death: Death) -> int:
    if death.cause in EXPECTED - CHOSEN:
        return INFO
    return NOTICE if death.cause in ON_PURPOSE else WARNING


def _cause(death: Death, found: Remedy) -> dict[str, Value]:
    """Return the fields about the cause."""
    fields: dict[str, Value] = {
        "KEEPALIVE_CAUSE": death.cause.key,
        "KEEPALIVE_CONFIDENCE": death.confidence,
        "KEEPALIVE_EXPLANATION": EXPLANATIONS[death.cause],
        "KEEPALIVE_REMEDY": "\n".join(found.lines) or found.because,
    }
    if death.others:
        fields["KEEPALIVE_OTHER_CAUSES"] = " ".join(other.key for other in death.others)
    return fields


def _place(death: Death, common: Common) -> dict[str, Value]:
    """Return the fields of what many have in common; a catalog requires one of them in each entry."""
    fields: dict[str, Value] = {"KEEPALIVE_FORETOLD": DIFFERS}
    if Common.UNIT in common and death.owner.unit:
        fields["KEEPALIVE_UNIT"] = death.owner.unit
    elif Common.USER in common:
        fields["KEEPALIVE_UID"] = death.uid
    if Common.PATH in common:
        fields |= {"KEEPALIVE_PATH": death.path, "KEEPALIVE_FORETOLD": death.hindsight.foretold.key}
    if Common.PATH in common and death.hop:
        fields["KEEPALIVE_HOP"] = death.hop
    return fields


def _process(death: Death) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    if death.owner.pid:
        fields |= {"KEEPALIVE_PID": death.owner.pid, "KEEPALIVE_PROCESS": death.owner.process}
    if death.closer:
        fields |= {"KEEPALIVE_ENDED_BY": death.closer, "KEEPALIVE_ENDED_BY_PID": death.closer_pid}
    if death.signal:
        fields["KEEPALIVE_SIGNAL"] = death.signal
    return fields


def _forecast(death: Death) -> dict[str, Value]:
    """Return the fields about the silence, and about what was forecast."""
    fields: dict[str, Value] = {"KEEPALIVE_BEFORE": death.hindsight.verdict.label}
    if not math.isnan(death.silence):
        fields["KEEPALIVE_SILENCE_SEC"] = _rounded(death.silence)
    if not math.isnan(death.hindsight.warned_before):
        fields["KEEPALIVE_WARNED_SEC"] = _rounded(death.hindsight.warned_before)
    if math.isfinite(death.timeout):
        fields["KEEPALIVE_TIMEOUT_SEC"] = round(death.timeout, 1)
        fields |= {"KEEPALIVE_TIMEOUT_ORIGIN": str(death.origin), "KEEPALIVE_TIMEOUT_SOURCE": death.origin.source.value}
    return fields
