"""What was said, held against what happened."""

from __future__ import annotations

import bisect
import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keepaliveD.model.connections import AT_RISK, Verdict, WhatCounts
from keepaliveD.policy.verdicts.announce import AGAIN_AFTER
from tests.simulation.armer import ArmedAt
from tests.simulation.connection import Connection
from tests.simulation.decider import CERTAIN, Word
from tests.simulation.kernel import CARRIES, HZ, NEVER, End, Kind
from tests.simulation.path import IN, OUT
from tests.simulation.run import Run
from tests.simulation.scans import EngineName
from tests.simulation.world import plan

SLACK = 8 / 63  # by which a timer may be late: a level of the wheel begins at 63 grains of the one below
TICKS = 0.012  # seconds: three jiffies
IN_TIME = 0.1  # seconds before the cut at which arming still helps: the probe has to get there

NO_ANSWER = ("keepalive got no answer", "data was not acknowledged")  # why a kernel gives up
A_MINUTE = 60.0  # seconds without an answer: longer than most losses and changes of routes last


class Wrong(enum.Enum):
    """Kinds of what may be wrong. The first ones are the invariants."""

    SAFE_AT_DEATH = "safe (certain) at death"
    SAFE_AFTER = "safe (certain) after death"
    SAFE_AT_END = "safe (certain), and its kernel gives it up next"
    SAFE_UNANSWERED = "safe, and the peer has answered nothing for a minute"
    CUT_THEN_PACKET = "cut (certain), a packet passed later"
    CUT_LOGGED_THEN_PACKET = "cut logged as certain, a packet passed later"
    CUT_EARLY = "cut (certain) before the cut, no packet passed later"
    NEVER_CUT = "dead, never judged cut"
    UNWARNED = "foreseeable death, no warning in time"
    FLIPS = "warned and taken back more than once, no fact changed"
    ARMED_IN_VAIN = "armed on a path that counts only data"
    ARMED_DIED = "armed in time, forgotten all the same"
    WEAKENED = "armed, died earlier than it would have"
    NOTICED_LATER = "armed, a dead peer was noticed later"
    FALSE_BARE = "bare logged, the peer's known rhythm kept it"
    FALSE_LATE = "late logged, the probe was surely in time"
    UNLUCKY_LATE = "(late logged, the probe came in time though it need not have)"
    CUT_UNSEEN = "(cut (certain), too early: packets were lost on this side of the path)"
    TURNS = "(verdict turned to safe more than once, no fact changed)"
    MISLED = "(safe (certain) at death, or not judged cut: what was lost here had refreshed it)"
    OUTLASTED = "(armed, died in an outage longer than its own probes last)"
    UNCERTAIN_AT_DEATH = "(safe, but presumed, at death)"
    UNWARNED_PRESUMED = "(no warning in time: it was presumed safe, or forgotten already)"
    TOO_QUICK = "(dead before any scan could see the cut)"
    NOT_AS_CONFIGURED = "(safe at death, on a path that counts not every packet)"


INVARIANTS = tuple(wrong for wrong in Wrong if not wrong.value.startswith("("))
HELD = tuple(  # by the simulations of the tests; docs/verdicts-measured.md tells when paths that count data break it
    wrong for wrong in INVARIANTS if wrong is not Wrong.NEVER_CUT
)


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that is wrong with one connection, and when."""

    wrong: Wrong
    number: int
    when: float


@dataclass(frozen=True, slots=True)
class Life:
    """One connection as truth has it. Instants are seconds."""

    connection: Connection
    gone_at: float  # the path forgot it, NEVER if it did not while it was established
    ended_at: float  # it was no longer established here, or the simulation ended
    tolerance: float  # seconds: what no host can know of packets on their way


def life(connection: Connection, until: float) -> Life:
    """Look back on it."""
    tolerance = connection.here.rtt + TICKS
    ended = min(connection.closed_at, until)
    gone = connection.forgotten_at() if connection.plan.born < until else NEVER
    return Life(connection, gone if gone < ended else NEVER, ended, tolerance)


def waited_longer(here: End, twin: End, until: float) -> bool:
    """Whether this end waited longer for a packet than the one that was not armed did before keepalive gave it up.

    Both waits count from the newest packet heard, as the kernel's does: when it came, and whether a path or the
    peer was the reason of the silence, differs between the two histories. Either may have been late by SLACK.
    From the instant on at which data is sent that nobody acknowledges, retransmissions decide, and not keepalive.
    """
    if twin.why != NO_ANSWER[0]:
        return False
    sent = here.unacknowledged_since if here.snd_nxt != here.snd_una else NEVER
    return here.silence(min(here.died_at, until, sent)) > twin.silence(twin.died_at) * (1 + SLACK) + 1


def both_ended(armed: Connection, twin: Connection) -> bool:
    """Whether the outage that ended this one ended the one that was not armed as well, only later.

    A number of probes is not more than an outage of so many intervals, less one: what was lost is not answered later.
    """
    since = armed.here.unanswered_since, twin.here.unanswered_since
    in_one = any(all(outage.start <= when < outage.end for when in since) for outage in armed.plan.outages)
    return in_one and twin.here.why == armed.here.why == NO_ANSWER[0]


class Judge:
    """Compares one run with what was said in it."""

    def __init__(self, done: Run) -> None:
        self._run = done
        self._starts = [scan.start for scan in done.scans]
        self._lives = [life(connection, done.world.until) for connection in done.connections]

    @property
    def deaths(self) -> int:
        """How many were forgotten while they were watched."""
        return sum(0 < each.gone_at < NEVER for each in self._lives)

    @property
    def lifetimes(self) -> int:
        """How many were watched at all."""
        return len(self._run.verdicts)

    def breaches(self) -> Iterator[Breach]:
        """All that is wrong."""
        for each in self._lives:
            number = each.connection.plan.number
            if number not in self._run.verdicts:
                continue
            for wrong, when in self._each(each):
                yield Breach(wrong, number, when)

    def _each(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        yield from self._cuts(each)
        yield from self._words(each)
        yield from self._arming(each)
        yield from self._end(each)
        yield from self._unanswered(each)
        if self._starts[0] < each.gone_at < NEVER:
            if not each.connection.plan.honest:
                if self._last(each, each.gone_at) == Verdict.SAFE | CERTAIN:
                    yield Wrong.NOT_AS_CONFIGURED, each.gone_at
                return
            yield from self._death(each)

    # scans

    def _read(self, each: Life, scan: int) -> float:
        """When this scan read its row."""
        done = self._run.scans[scan]
        return done.start + each.connection.plan.read_offset * (done.end - done.start)

    def _last(self, each: Life, before: float) -> int | None:
        """The verdict in force then, None if there was none."""
        said = None
        for scan, verdict in self._run.verdicts[each.connection.plan.number]:
            if self._read(each, scan) >= before:
                break
            said = verdict
        return said

    def _last_scan(self, each: Life, before: float) -> int:
        """The last scan that read it before then, -1 if none did."""
        scan = bisect.bisect_left(self._starts, before) - 1
        return scan - 1 if scan >= 0 and self._read(each, scan) >= before else scan

    def _seen_between(self, each: Life, start: float, end: float) -> list[int]:
        """Scans that read it in between."""
        first, last = bisect.bisect_left(self._starts, start - self._run.world.takes), self._last_scan(each, end)
        born = max(start, each.connection.plan.born)
        return [scan for scan in range(first, last + 1) if self._read(each, scan) >= born]

    # cut

    def _cuts(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        """No certain `cut` of what lives."""
        number = each.connection.plan.number
        verdicts = [scan for scan, verdict in self._run.verdicts[number] if verdict == Verdict.CUT | CERTAIN]
        words = self._run.words.get(number, ())
        logged = [scan for scan, word in words if word.verdict is Verdict.CUT and word.certain]
        for early in self._early(each, verdicts):
            if self._unseen(each, early):
                yield Wrong.CUT_UNSEEN, early
            else:
                yield Wrong.CUT_THEN_PACKET if self._passed_after(each, early) else Wrong.CUT_EARLY, early
        for early in self._early(each, logged):
            if self._passed_after(each, early) and not self._unseen(each, early):
                yield Wrong.CUT_LOGGED_THEN_PACKET, early

    def _early(self, each: Life, scans: list[int]) -> list[float]:
        """When the first of these scans ended that were before the cut, if any was."""
        ends = [self._run.scans[scan].end for scan in scans]
        return [end for end in ends if end < each.connection.forgotten_at() - each.tolerance][:1]

    def _passed_after(self, each: Life, when: float) -> bool:
        return each.connection.passed[-1][0] > when

    def _unseen(self, each: Life, when: float) -> bool:
        """Whether the firewall may have seen what was lost on this side of it."""
        since = when - each.connection.plan.timeout - self._run.world.interval
        return any(since < lost for lost in each.connection.unseen)

    # its kernel gives it up

    def _end(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        """No certain `safe` of what is given up when its timer next fires, as TCP_USER_TIMEOUT or its probes have it.

        Without either it is data that was sent for 15 minutes.
        """
        end = each.connection.here
        if end.why not in NO_ANSWER or not (end.options.user_timeout or end.why == NO_ANSWER[0]):
            return
        for scan in self._seen_between(each, end.tried_at + TICKS, end.died_at):
            if self._last(each, self._read(each, scan) + 1e-9) == Verdict.SAFE | CERTAIN:
                yield Wrong.SAFE_AT_END, end.died_at
                return

    def _unanswered(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        """No `safe`, not even a presumed one, while what is sent is not answered.

        Only where the socket's settings are read: elsewhere nothing tells since when probes are sent, nor data that
        TCP_USER_TIMEOUT sends again sooner.
        """
        end = each.connection.here
        are_read = self._run.engine is EngineName.BPF
        if end.why == NO_ANSWER[0] and are_read:
            since = end.clock.jiffies(end.unanswered_since)
        elif end.snd_nxt != end.snd_una and (are_read or not end.options.user_timeout):
            since = max(end.clock.jiffies(end.unacknowledged_since), end.last_ack, end.last_received)
        else:
            return
        for scan in self._seen_between(each, end.clock.real(since), min(end.died_at, each.ended_at)):
            read = self._read(each, scan)
            said = self._last(each, read + 1e-9)
            late = end.clock.jiffies(read) - since > A_MINUTE * HZ
            if late and said is not None and said & ~CERTAIN == Verdict.SAFE:
                yield Wrong.SAFE_UNANSWERED, read
                return

    # death

    def _death(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        connection, gone = each.connection, each.gone_at
        after = [  # a verdict is of the instant at which its scan began
            scan
            for scan in self._seen_between(each, gone + each.tolerance, each.ended_at)
            if self._starts[scan] >= gone + each.tolerance
        ]
        passed = [when for when, _, _ in connection.passed if when < gone]
        survived = max((after - before for before, after in itertools.pairwise(passed)), default=0.0)
        misled = survived > connection.plan.timeout  # as far as this host saw: the path seems longer
        unforeseen = self._disturbed(connection, gone)
        last = self._last(each, gone)
        if misled and last == Verdict.SAFE | CERTAIN:
            yield Wrong.MISLED, gone
        elif last == Verdict.SAFE | CERTAIN and not unforeseen and not self._passed_since(each, gone):
            yield Wrong.SAFE_AT_DEATH, gone
        elif last == Verdict.SAFE:
            yield Wrong.UNCERTAIN_AT_DEATH, gone
        if after:
            seems_gone = passed[-1] + survived + each.tolerance
            still = Wrong.MISLED if misled and self._starts[after[-1]] < seems_gone else None
            verdicts = [self._last(each, self._read(each, scan) + 1e-9) for scan in after]
            if not any(verdict is not None and verdict & ~CERTAIN == Verdict.CUT for verdict in verdicts):
                yield still or Wrong.NEVER_CUT, gone
            if verdicts[-1] == Verdict.SAFE | CERTAIN:
                yield still or Wrong.SAFE_AFTER, self._read(each, after[-1])
        else:
            yield Wrong.TOO_QUICK, gone
        if not unforeseen and not misled and not connection.peer.vanished:
            yield from self._warning(each)

    def _disturbed(self, connection: Connection, gone: float) -> bool:
        """Whether something that nobody could foresee had a part in it."""
        world, timeout = self._run.world, connection.plan.timeout
        heard = max((when for when in connection.probes_heard if when < gone), default=NEVER)
        unseen = [*connection.disturbed, *(edge for gap in world.asleep for edge in gap)]
        unseen += [when for when in connection.peer_changed if when <= heard]
        seen = [*connection.changed, *(each.since for each in world.sysctls)]
        return (
            any(gone - 3 * (timeout + world.interval) <= when <= gone for when in unseen)
            or any(gone - timeout - 2 * world.interval <= when <= gone for when in seen)
            or any(
                self._is_unnoticed(connection, when, gone) for when in connection.peer_changed if heard < when <= gone
            )
        )

    def _is_unnoticed(self, connection: Connection, when: float, gone: float) -> bool:
        """Whether no silence but the last one has shown that the peer probes no more, as its program had set then.

        One shows it that lasts until a probe would surely have come, as far as scans can tell how often they came.
        """
        longest = max((after - before for before, after in itertools.pairwise(self._starts)), default=NEVER)
        enough = (connection.peer_changed[when] + 2 * longest) * (1 + SLACK) + 2 * longest
        spoken = [at for at in connection.data_at if when <= at < gone]
        return not any(after - before > enough for before, after in itertools.pairwise(spoken))

    def _passed_since(self, each: Life, gone: float) -> bool:
        """Whether a packet passed in time after the last scan: the verdict was of the silence before, and came true."""
        scan = self._last_scan(each, gone)
        passed = [when for when, _, _ in each.connection.passed if when < gone]
        return scan >= 0 and passed[-1] > self._read(each, scan) - each.tolerance

    def _warning(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        """At least min(warn_before, T/2) less one interval before each death that was foreseeable.

        None is where the facts allow that the path has forgotten the connection already.
        """
        world, gone = self._run.world, each.gone_at
        lead = min(world.warn_before, each.connection.plan.timeout / 2)
        longest = world.interval + world.jitter + 2 * world.takes
        if lead <= longest:
            return
        start = gone - lead + each.tolerance
        in_time = self._seen_between(each, start, gone - lead + longest)
        scans = in_time or self._seen_between(each, start, gone)[:1]
        if not scans or self._read(each, scans[-1]) >= gone - each.tolerance:
            return
        number = each.connection.plan.number
        words = [word for scan, word in self._run.words.get(number, ()) if scan <= scans[-1]]
        armed = any(one.when <= self._run.scans[scans[-1]].end + IN_TIME for one in self._run.armed.get(number, ()))
        if not armed and not (words and words[-1].verdict in AT_RISK):
            last = self._last(each, self._read(each, scans[-1]) + 1e-9)
            presumed = last == Verdict.SAFE or (last == Verdict.CUT and self._may_be_forgotten(each, scans[-1]))
            yield Wrong.UNWARNED_PRESUMED if presumed else Wrong.UNWARNED, gone

    def _may_be_forgotten(self, each: Life, scan: int) -> bool:
        """Whether the facts allow that the path had forgotten it by this scan.

        Ages show data and the answers to our probes; of a peer's probe a host knows only before which scan it came.
        """
        connection, now = each.connection, self._read(each, scan)
        shown = [
            when
            for when, kind, direction in connection.passed
            if when < now and (kind in CARRIES or (kind is Kind.PROBE and direction != IN))
        ]
        heard = [when for when in connection.probes_heard if when < now]
        before = self._last_scan(each, heard[-1]) if heard else -1
        earliest = [*shown[-1:], *([self._read(each, before)] if before >= 0 else []), connection.plan.born]
        return now - max(earliest) > connection.plan.timeout - IN_TIME

    # what was logged

    def _words(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        words = self._run.words.get(each.connection.plan.number, ())
        said: set[Wrong] = set()
        for scan, word in words:
            end = self._run.scans[scan].end
            wrong = self._false_alarm(each, scan, word)
            if wrong and wrong not in said:
                said.add(wrong)
                yield wrong, end
        yield from self._flips(each)

    def _false_alarm(self, each: Life, scan: int, word: Word) -> Wrong | None:
        connection, end = each.connection, self._run.scans[scan].end
        if word.verdict not in (Verdict.BARE, Verdict.LATE) or self._only_data(each):  # a probe makes no difference
            return None
        after = bisect.bisect_right(connection.passed, (end, Kind.FIN, IN))
        if after >= len(connection.passed) or connection.passed[after][1] is not Kind.PROBE:
            return None
        before = connection.passed[after - 1][0]
        if any(before < when < connection.passed[after][0] for when in connection.armed_at):
            return None
        if self._disturbed(connection, connection.passed[after][0]):
            return None
        ours = connection.passed[after][2] != IN
        sure = self._sure_of_own(connection, end) if ours else self._sure_of_peer(each, self._read(each, scan))
        if sure and not self._is_on_its_way(each, scan):
            return Wrong.FALSE_BARE if word.verdict is Verdict.BARE else Wrong.FALSE_LATE
        return Wrong.UNLUCKY_LATE if word.verdict is Verdict.LATE else None

    def _is_on_its_way(self, each: Life, scan: int) -> bool:
        """Whether the scan read while a probe of its own was not answered yet, and the engine shows not since when."""
        read, near = self._read(each, scan), each.connection.here.rtt + TICKS
        probes = (when for when, kind, way in each.connection.passed if kind is Kind.PROBE and way == OUT)
        return self._run.engine is EngineName.NETLINK and any(abs(when - read) < near for when in probes)

    def _only_data(self, each: Life) -> bool:
        return self._run.world.paths[each.connection.plan.path].counts is WhatCounts.DATA

    def _sure_of_own(self, connection: Connection, now: float) -> bool:
        return self._period(connection, now) * (1 + SLACK) + 1 < connection.plan.timeout

    def _period(self, connection: Connection, now: float) -> float:
        """Seconds between answered probes of its own, by what stood in its socket then; NEVER without keepalive."""
        end = connection.here
        options = next((before for when, before in sorted(connection.changed.items()) if when > now), None)
        armed = next((one for one in self._run.armed.get(connection.plan.number, ()) if one.when > now), None)
        if options is None and armed is not None:
            before = armed.before
            return float(max(before.times.idle, before.times.interval)) if before.on else NEVER
        options, system = options or end.options, end.system(now)
        longer = max(options.idle or system.idle, options.interval or system.interval)
        return float(longer) if options.on else NEVER

    def _sure_of_peer(self, each: Life, now: float) -> bool:
        """Two of its probes in a row were heard while the daemon watched, and nothing has changed since.

        The answer to a probe of this end hides one that came in the same scan: it might be another answer.
        How often they come is known up to the scans around both.
        """
        connection = each.connection
        first = self._run.verdicts[connection.plan.number][0][0]
        spoke = max((when for when in connection.data_at if when < now), default=-NEVER)
        after = bisect.bisect_left(self._starts, spoke)  # the first scan since, to which data hides probes
        since = max(self._read(each, first), self._read(each, after) if after < len(self._starts) else now)
        heard = [when for when in connection.probes_heard if since < when < now]
        end = connection.peer
        period = max(end.idle(now), end.interval(now)) * (1 + SLACK) + 2 * self._run.world.interval + 1
        shown = any(
            self._scans_around(each, other)[1] - self._scans_around(each, one)[0] < connection.plan.timeout
            for one, other in itertools.pairwise(heard)
            if not self._is_hidden(each, one) and not self._is_hidden(each, other)
        )
        return shown and period < connection.plan.timeout

    def _scans_around(self, each: Life, when: float) -> tuple[float, float]:
        """Return when it was read the last time before then, and the first time after."""
        before = self._last_scan(each, when)
        start = self._read(each, before) if before >= 0 else -NEVER
        return start, self._read(each, before + 1) if before + 1 < len(self._starts) else NEVER

    def _is_hidden(self, each: Life, heard: float) -> bool:
        """Whether an answer to a probe or to data of this end came in the same scan as this probe of the peer."""
        start, end = self._scans_around(each, heard)
        passed, latency = each.connection.passed, each.connection.here.rtt
        first = bisect.bisect_left(passed, (start - latency, Kind.DATA, OUT))
        near = itertools.takewhile(lambda one: one[0] < end, passed[first:])
        return any(kind is Kind.ACK and direction == IN for _, kind, direction in near)

    def _facts(self, connection: Connection) -> list[float]:
        """Instants at which something changed, other than by a rhythm."""
        world = self._run.world
        facts = [*connection.data_at, *connection.disturbed, *connection.changed, *connection.armed_at]
        facts += connection.peer_changed
        facts += [edge for gap in (*world.asleep, *world.pauses) for edge in gap]
        facts += [system.since for system in world.sysctls]
        return sorted(facts)

    def _turned(
        self, facts: list[float], said: list[tuple[int, Verdict]], settled: Callable[[int], bool]
    ) -> float | None:
        """When a warning was taken back for the second time while no fact changed; what has settled does not count."""
        at_risk, taken_back, epoch = False, 0, -1
        for scan, verdict in said:
            now = bisect.bisect(facts, self._run.scans[scan].end)
            if now != epoch:
                taken_back, epoch = 0, now
            taken_back += at_risk and verdict not in AT_RISK and not settled(scan)
            if taken_back > 1:
                return self._run.scans[scan].end
            at_risk = verdict in AT_RISK
        return None

    def _flips(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        number = each.connection.plan.number
        facts = self._facts(each.connection)
        words = [(scan, word.verdict) for scan, word in self._run.words.get(number, ())]
        verdicts = [(scan, Verdict(verdict & ~CERTAIN)) for scan, verdict in self._run.verdicts[number]]

        def has_settled(scan: int) -> bool:
            """Whether it was not at risk for an hour."""
            before = [(at, verdict) for at, verdict in verdicts if at < scan]
            ends = [at for (_, verdict), (at, _) in itertools.pairwise([*before, (scan, None)]) if verdict in AT_RISK]
            return bool(ends) and self._read(each, scan) - self._read(each, ends[-1] - 1) >= AGAIN_AFTER

        for wrong, said, settled in ((Wrong.FLIPS, words, has_settled), (Wrong.TURNS, verdicts, lambda _: False)):
            when = self._turned(facts, said, settled)
            if when is not None:
                yield wrong, when

    # arming

    def _arming(self, each: Life) -> Iterator[tuple[Wrong, float]]:
        armed = self._run.armed.get(each.connection.plan.number)
        if not armed:
            return
        connection, first = each.connection, armed[0]
        if self._only_data(each):
            yield Wrong.ARMED_IN_VAIN, first.when
        in_time = first.when < first.forgotten_at - IN_TIME
        died = in_time and each.gone_at < NEVER and connection.plan.honest
        if died and not connection.peer.vanished and not self._disturbed(connection, each.gone_at):
            yield Wrong.ARMED_DIED, each.gone_at
        twin = self._not_armed(connection.plan.number, armed[-1].when)
        twin.advance(self._run.world.until)
        if any(when > first.when for when in twin.changed):
            return  # which the one that was armed did not see
        ended = connection.here.died_at
        killed = connection.here.why in NO_ANSWER
        survived = self._lived_on(twin, ended, NEVER) and not both_ended(connection, twin)
        if killed and not connection.peer.vanished and survived:
            lasts = self._lived_on(twin, ended, self._would_last(connection, first))
            yield Wrong.WEAKENED if lasts else Wrong.OUTLASTED, ended
        if waited_longer(connection.here, twin.here, self._run.world.until):
            yield Wrong.NOTICED_LATER, ended

    def _not_armed(self, number: int, when: float) -> Connection:
        """The same connection, had it not been armed, with the system's settings of the instant `when` it last was.

        What its program had then is what arming must not weaken. Nobody could know what the system would say later,
        and an armed socket does not follow it.
        """
        drawn = plan(self._run.world, number)
        known = [each for each in drawn.here_sysctls if each.since <= when]
        return Connection(dataclasses.replace(drawn, here_sysctls=known))

    def _would_last(self, connection: Connection, first: ArmedAt) -> float:
        """When its own last probe would have left, had they begun with the first that nobody answered.

        When they begin is luck: an outage ends a connection only where probes fall in it. So is what the peer says
        after the last one: that is all it then waits for. Without keepalive of its own the rule's number counts.
        """
        here, before, after = connection.here, first.before, first.after
        if here.why != NO_ANSWER[0]:
            return NEVER
        interval, probes = before.times.interval, before.times.probes
        if not before.on:
            interval, probes = after.times.interval, max(after.times.probes, self._run.world.arm[0].probes)
        return here.unanswered_since + (probes - 1) * interval

    def _lived_on(self, twin: Connection, died: float, until: float) -> bool:
        """Whether both ends of the one that was not armed spoke later through the path, but before `until`."""
        later = {direction for when, kind, direction in twin.passed if died < when < until and kind is not Kind.RESET}
        return len(later) == 2
