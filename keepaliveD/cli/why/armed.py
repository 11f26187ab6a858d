"""Say which keepalive a socket has, who set it, what arming did to it, and what a daemon will do with it."""

from __future__ import annotations

from keepaliveD.cli.targets import named
from keepaliveD.cli.why.host import Host
from keepaliveD.log.words import too_long
from keepaliveD.model.connections import AT_RISK, Due
from keepaliveD.model.duration import exact
from keepaliveD.model.explained import Explained
from keepaliveD.model.keepalive import FIELDS, Found, Own, Shown, SocketKeepalive
from keepaliveD.model.origin import Source
from keepaliveD.model.results import Armed, ArmingResult, Entry, Mark, PutBack
from keepaliveD.model.rules import ArmAction
from keepaliveD.policy.arming.socket_settings import as_chosen, decide_disarming

REQUIRES_ROOT = "requires root"
WHY_NOT_READ = {
    None: REQUIRES_ROOT,
    ArmingResult.CLOSED: "the connection was closed meanwhile, or its network namespace cannot be entered from here",
    ArmingResult.SUBFLOW: 'an MPTCP subflow; requires watch.engine = "bpf"',
    ArmingResult.OWNER_NOT_FOUND: "no process was found that holds the socket",
    ArmingResult.OWNER_NOT_VISIBLE: REQUIRES_ROOT,
    ArmingResult.NOT_PERMITTED: REQUIRES_ROOT,
    ArmingResult.OTHER_USER_NAMESPACE: "its process is in another user namespace",
}
HOPELESS = {
    ArmingResult.ONLY_DATA: "the path counts only data; let its program send some more often, or raise the idle "
    "timeout of the path",
    ArmingResult.USER_TIMEOUT: "its program has set a TCP_USER_TIMEOUT, with which keepalive would end the connection "
    "sooner in an outage; only the program can change that",
}
UNANSWERED = {Due.RETRANSMIT: "data is being sent again", Due.ZERO_WINDOW: "a zero-window probe is unanswered"}


def was_not_permitted(its: Explained) -> bool:
    """Return whether the socket was not read because that requires root."""
    return its.found is None and WHY_NOT_READ.get(its.hindrance) == REQUIRES_ROOT


def keepalive(its: Explained, host: Host) -> str:
    """Return the words for the keepalive that stands in the socket, and who set it."""
    found, one = its.found, its.connection
    if found is None:
        shown = "not shown while another timer runs" if one.keepalive is Shown.HIDDEN else one.keepalive.value
        return f"{shown}; who set it is not known: {WHY_NOT_READ.get(its.hindrance, 'it cannot be read')}"
    if its.armed:
        how = "its timer was restarted" if its.armed.before == found.stands else f"before: {its.armed.before}"
        return f"on, armed by keepaliveD: {found.stands.times}; {how}"
    if not found.stands.on:
        return "off: its program has not switched it on"
    if its.entry is None and host.hidden:
        return f"on: {found.stands.times}; who set it is not known: {host.hidden}"
    return f"on, switched on by its program: {_times(found, its.entry)}"


def _times(found: Found, entry: Entry | None) -> str:
    """Return the times with whose they are."""
    stands = found.stands.times
    words = exact(stands.idle), exact(stands.interval), str(stands.probes)
    by_owner: dict[str, list[str]] = {}
    for name, value, said, field in zip(("idle", "interval", "probes"), stands, words, FIELDS, strict=True):
        whose = "the system's" if found.inherited & field else _whose_own(found, field, value, entry)
        by_owner.setdefault(whose, []).append(f"{name} {said}")
    return "; ".join(f"{', '.join(words)} ({whose})" for whose, words in by_owner.items())


def _whose_own(found: Found, field: Own, value: int, entry: Entry | None) -> str:
    """Return whose a time is that the socket has of its own; disarming leaves such times as well."""
    if found.system is None:
        return "its own or the system's"
    if found.system[FIELDS.index(field)] == value:
        return "its own, the same as the system's"
    if isinstance(entry, PutBack):
        return "its own, put back by an earlier daemon"
    return "its own, set by keepalivectl disarm or by its program" if entry is Mark.LEFT_ALONE else "its program's"


def done(its: Explained, host: Host) -> str:
    """Return what arming did to the connection, or what a daemon will do with it; "" where neither is of use."""
    if its.armed:
        return f"yes; keepalivectl disarm {_restores(its, its.armed, host)}"
    if isinstance(its.entry, Armed):
        return f"it was, with {its.entry.after}; its program has changed that since"
    if its.entry is Mark.LEFT_ALONE:
        return (
            "it was, until keepalivectl undo or disarm took that back, or its program changed it; no rule arms it "
            f"again, but this does: {arming_again(its)}"
        )
    at_risk = its.connection.verdict in AT_RISK and its.watched
    return _foreseen(its, daemon=host.daemon) if at_risk else ""


def arming_again(its: Explained) -> str:
    """Return the command that arms a connection again after somebody has undone that."""
    return f"keepalivectl arm {named.rarer_end(its.connection)}"


def _restores(its: Explained, armed: Armed, host: Host) -> str:
    """Return what disarming does, as it is decided then: what was inherited is what it would be without us."""
    system = host.replaced(its.connection)
    without_us = as_chosen(armed, system) if system else armed
    back = decide_disarming(its.found._replace(unanswered=0), without_us) if its.found else without_us.before
    if not isinstance(back, SocketKeepalive):
        return "changes nothing: these times would stand there as well"
    stood = "what stood there" if str(back) == str(armed.before) else "what would stand there without keepaliveD"
    return f"restores {stood}: {back}"


def _foreseen(its: Explained, *, daemon: bool) -> str:
    """Return what a daemon does with a connection at risk."""
    if not its.connection.inode:
        return "no: no program holds it any more"
    if its.found is not None and its.decision is None and its.connection.origin.source is Source.EVIDENCE:
        return "no: nothing is armed by evidence; write the idle timeout into a [[path]]"
    if not isinstance(its.decision, Armed):
        return _refused(its)
    if its.left_until_reload:
        times = its.decision.after.times
        return f"no: the daemon tried it before, and left it; after a reload rule {its.rule.name} arms it: {times}"
    if daemon:
        return f"rule {its.rule.name} arms it at the next scan: {its.decision.after.times}"
    return f"no daemon runs; rule {its.rule.name} would arm it: {its.decision.after.times}"


def _refused(its: Explained) -> str:
    """Return why the rule that matches does not arm it."""
    rule, off = its.rule, its.found is not None and not its.found.stands.on
    match its.decision:
        case ArmingResult.LEFT_BY_RULE if rule.action is ArmAction.OBSERVE:
            said = 'says "observe"'
        case ArmingResult.LEFT_BY_RULE if off:
            said = 'says "rearm", which leaves sockets alone that have keepalive off'
        case ArmingResult.KEPT_BY_PROGRAM:
            said = 'says "rearm", which keeps the times that a program chose'
        case ArmingResult.TOO_LONG if its.times:
            said = f"would not arm it: {too_long(its.times, its.connection)}"
        case ArmingResult.PROBE_UNANSWERED:
            sent = UNANSWERED.get(its.connection.due, f"a {'packet' if off else 'keepalive probe'} is unanswered")
            said = f"would not arm it: to arm it while {sent} could end it; try again once the peer has answered"
        case ArmingResult() as result:
            said = f"would not arm it: {HOPELESS.get(result, result.value)}"
        case _:
            return "not known what a daemon does: the socket was not read"
    return f"no: rule {rule.name} {said}"
