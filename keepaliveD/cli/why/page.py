"""A page in plain words about connections: which keepalive each has and who set it, what comes next, what to do.

Text of model values; it asks nobody.
"""

from __future__ import annotations

import datetime
import fnmatch
import math
import shlex
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from keepaliveD.cli.targets import named
from keepaliveD.cli.why import armed, forgotten
from keepaliveD.cli.why.forgotten import Gone
from keepaliveD.cli.why.host import Host
from keepaliveD.config.units import with_suffix
from keepaliveD.model.connections import Connection, Due, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.explained import Explained
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.text import printable, quoted
from keepaliveD.policy.arming.meaning import fits

LABEL = 13  # columns of what a line is about
INDENT = "  "
UNKNOWN = "unknown"
NO_PACKET = "none, until its program or the peer sends data"
WHEN = "%Y-%m-%d %H:%M:%S"


def headline(target: str, explained: Sequence[Explained], more: int = 0) -> str:
    """Return the first line: how many connections the target has, by verdict; `more` are not explained."""
    counts = Counter(one.connection.verdict for one in explained if not outdated(one))
    said = [f"{counts[verdict]} {verdict.label}" for verdict in sorted(counts, key=_badness)]
    if guessed := sum(rests_on_guess(one) for one in explained if not outdated(one)):
        said[-1] += " by a guess" if guessed == counts[Verdict.SAFE] else f" ({guessed} by a guess)"
    if changed := len(explained) - counts.total():
        said.append(f"{changed} changed since the last scan")
    total = len(explained) + more
    not_shown = f"; {_are(len(explained))} explained here, the most urgent of each user first" if more else ""
    what = printable(_described(target, explained))
    return f"{what}: {total} connection{'s' * (total != 1)}: {', '.join(said)}{not_shown}"


def _described(target: str, explained: Sequence[Explained]) -> str:
    """Return the words for what the command line names: a unit is a bare word, so that no process passes for one."""
    units = {one.connection.owner.unit for one in explained}
    if not named.is_name(target) or any(unit and fnmatch.fnmatchcase(unit, with_suffix(target)) for unit in units):
        return named.described(target)
    users = {one.connection.uid for one in explained}
    return f"process {target} ({f'uid {users.pop()}' if len(users) == 1 else f'{len(users)} users'})"


def _are(number: int) -> str:
    return f"{number} {'is' if number == 1 else 'are'}"


def outdated(its: Explained) -> bool:
    """Return whether keepalive was changed since the scan by which the connection was judged.

    A connection that is late or bare at a scan and has times that fit its path was armed after that scan, but where
    only data counts: no keepalive makes it safe there.
    """
    if its.found is None:
        return False
    one, stands = its.connection, its.found.stands
    if one.keepalive is (Shown.OFF if stands.on else Shown.ON):
        return True
    is_saved = its.armed is not None and one.due in (Due.NOTHING, Due.KEEPALIVE) and fits(stands.times, one.timeout)
    return is_saved and one.counts is not WhatCounts.DATA and one.verdict in (Verdict.LATE, Verdict.BARE)


def _badness(verdict: Verdict) -> int:
    return [Verdict.CUT, Verdict.BARE, Verdict.LATE, Verdict.UNKNOWN, Verdict.SAFE].index(verdict)


def page(explained: Sequence[Explained], host: Host) -> Iterator[str]:
    """Yield the lines about these connections, the most urgent first; those alike are explained once."""
    alike: dict[Hashable, list[Explained]] = {}
    for one in explained:
        alike.setdefault((_kind(one), *_ended(one, host)), []).append(one)
    for members in alike.values():
        yield ""
        yield from _section(members, host)


def _kind(its: Explained) -> Hashable:
    """Return what connections share that have one explanation."""
    one = its.connection
    return (
        (one.owner.process, one.owner.unit, one.owner.container, one.path, one.timeout, one.state),
        (one.verdict, one.confirmed, one.due, one.keepalive, bool(one.inode)),
        (its.watched, its.found, its.hindrance, its.entry, its.rule, its.decision, its.remedy, its.hopeless),
    )


def _ended(its: Explained, host: Host) -> tuple[tuple[Gone, ...], tuple[Gone, ...]]:
    """Return which connections like this one the path forgot, with the same peer and with others."""
    return host.forgotten.with_peer(its.connection), host.forgotten.of_unit(its.connection)


def _section(members: Sequence[Explained], host: Host) -> Iterator[str]:
    its, one = members[0], members[0].connection
    yield f"{_ends(one)}  {_who(one)}"
    yield f"{INDENT}{_fate(its, host)}"
    for label, words in _facts(its, host):
        yield f"{INDENT}{label.ljust(LABEL)}{words}"
    if others := [member.connection for member in members[1:]]:
        yield f"{INDENT}{'alike'.ljust(LABEL)}{_count(len(others))}: {_listed(others)}"


def _ends(one: Connection) -> str:
    return f"{one.local} -> {one.remote}"


def _who(one: Connection) -> str:
    owner = one.owner
    process = f"{quoted(owner.process)}[{owner.pid}]" if owner.pid else f"process not known, uid {one.uid}"
    within = owner.unit or owner.container
    return f"{process} ({printable(within)})" if within else process


def _listed(others: Sequence[Connection]) -> str:
    shown = ", ".join(map(_ends, others[:2]))
    return f"{shown}, ..." if len(others) > 2 else shown


def _count(number: int) -> str:
    return f"{number} other{'s' * (number != 1)}"


def rests_on_guess(its: Explained) -> bool:
    """Return whether a connection is safe only if the timeout of its path is as long as it is guessed to be."""
    return its.connection.rests_on_guess and its.watched


def _fate(its: Explained, host: Host) -> str:
    """Return what will happen, and how sure that is."""
    one, against = its.connection, host.forgotten.against(its.connection)
    if not its.watched:
        return f"Not watched: {_left_out(one)} (watch.ignore). By itself it would be {one.verdict.label}."
    if outdated(its):
        return f"{one.verdict.label.upper()} at the last scan; its keepalive was changed since: see the next scan."
    sure = "" if one.confirmed or one.verdict is Verdict.UNKNOWN else f" (Likely, not certain{_unseen(one)}.)"
    if one.verdict is Verdict.SAFE and (against or rests_on_guess(its)):
        return f"SAFE {_condition(one, against)}: {_what_happens(one)}{sure}"
    seen = ""
    if against:
        seen = f"{_but(one, against)}, sooner than the timeout of {span(one.timeout)} says. By that timeout "
    return f"{one.verdict.label.upper()}: {seen}{_what_happens(one)}{sure}"


def _left_out(one: Connection) -> str:
    """Return why a connection is not watched."""
    if one.local.address == one.remote.address:
        return "both of its ends have the same address, so it stays on this host as one to loopback does"
    return "its peer is in an ignored network"


def _unseen(one: Connection) -> str:
    """Return what presumes `bare`: a single scan does not see the peer's probes, and whoever has probed may again."""
    return ": the peer may send keepalive probes" if one.verdict is Verdict.BARE else ""


def _condition(one: Connection, against: Sequence[Gone]) -> str:
    """Return on which condition a connection is safe."""
    if against:
        return f"only if the path's timeout is {span(one.timeout)}, which is contradicted ({_but(one, against)})"
    return f"if the path's timeout is {span(one.timeout)}, which is a guess"


def _but(one: Connection, against: Sequence[Gone]) -> str:
    return forgotten.ended_to(one, against)


def _what_happens(one: Connection) -> str:
    left = "" if math.isnan(one.left) else span(max(0.0, one.left) if one.verdict is Verdict.SAFE else abs(one.left))
    due = span(max(0.0, one.due_in))
    match one.verdict:
        case Verdict.SAFE if one.timeout == FOREVER:
            said = "the path never forgets this connection."
        case Verdict.SAFE:
            said = f"the next packet leaves in {due}; without one the path would forget this connection in {left}."
        case Verdict.LATE if one.due is Due.END:
            gone = "it is gone, the path has forgotten this connection, or the way is down"
            said = f"the peer answers nothing: {gone}. It ends in {due}."
        case Verdict.LATE:
            said = f"the path forgets this connection in {left}, before the next packet leaves, in {due}."
        case Verdict.BARE if one.counts is WhatCounts.DATA:
            said = f"the path forgets this connection in {left}, unless its program or the peer sends data before."
        case Verdict.BARE:
            said = f"the path forgets this connection in {left}, and no packet is due before its program sends data."
        case Verdict.CUT:
            said = f"the path has presumably forgotten this connection, {left} ago. What is sent now is lost."
        case _ if one.state != "ESTABLISHED":
            said = f"this connection is being closed ({one.state}); for those no idle timeout is known."
        case _:
            said = "the system does not show enough of this connection to tell."
    return said


def _facts(its: Explained, host: Host) -> Iterator[tuple[str, str]]:
    one = its.connection
    yield "keepalive", armed.keepalive(its, host)
    if its.found and its.found.stands.on and its.found.inherited and not its.armed and (before := host.replaced(one)):
        yield "", f"the daemon has set the system's; before: {before}"
    if its.found and its.found.user_timeout:
        yield "", f"TCP_USER_TIMEOUT is {span(its.found.user_timeout / 1000)}, set by its program"
    yield "next packet", _next_packet(its)
    quiet = UNKNOWN if math.isnan(one.idle) else f"{span(one.idle)} ago"
    yield "last data" if one.counts is WhatCounts.DATA else "last packet", quiet
    yield "path", _path(one)
    yield from zip(("died", ""), _died(its, host), strict=False)
    if done := armed.done(its, host):
        yield "armed", done


def _next_packet(its: Explained) -> str:
    one, found = its.connection, its.found
    if found and found.stands.on and outdated(its):
        return f"keepalive in {span(found.stands.times.idle)} at most"
    if one.due is Due.NOTHING or (one.due is Due.KEEPALIVE and outdated(its)):
        return NO_PACKET
    if one.due is Due.END:
        return f"none that is answered: the connection ends in {span(max(0.0, one.due_in))}"
    return f"{one.due.label} in {span(max(0.0, one.due_in))}"


def _path(one: Connection) -> str:
    if math.isnan(one.timeout):
        return f"{quoted(one.path)}, whose timeout for connections that are being closed is not known"
    if one.timeout == FOREVER:
        return f"{quoted(one.path)}, never forgets ({one.origin})"
    origin = f"{one.origin}; no [[path]] matches" if one.origin.guessed else str(one.origin)
    what, vain = ("data", "; keepalive does not help there") if one.counts is WhatCounts.DATA else ("a packet", "")
    return f"{quoted(one.path)}, forgets after {span(one.timeout)} without {what} ({origin}){vain}"


def _died(its: Explained, host: Host) -> Iterator[str]:
    """Yield which connections like this one the path forgot, and how to see them."""
    one = its.connection
    with_peer, others = _ended(its, host)
    if with_peer:
        them = "it" if forgotten.count(with_peer) == 1 else "them"
        last = datetime.datetime.fromtimestamp(with_peer[0].when).strftime(WHEN)  # noqa: DTZ006  # local
        yield (
            f"{forgotten.ended_to(one, with_peer)}, the last on {last}: the path had forgotten {them}; "
            f"see {deaths_of(one.remote.address)}"
        )
    if others:
        also = "also " if with_peer else ""
        number = f"{forgotten.counted(others)} other{'s' * (forgotten.count(others) != 1)}"
        yield (
            f"{also}{number} of {printable(one.owner.unit)} {forgotten.after(others)}; see {deaths_of(one.owner.unit)}"
        )
    if host.forgotten.hidden and one.origin.guessed and not with_peer:
        yield f"not known: {host.forgotten.hidden}"


def deaths_of(target: str) -> str:
    """Return the command that lists the ends of connections of a target; without one, all."""
    return printable(shlex.join(["keepalivectl", "deaths", *([target] if target else [])]))
