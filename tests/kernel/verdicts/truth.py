"""What was true of each connection, and which of a daemon's words were not."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tests.kernel.verdicts.stage import Entry, Life, Pause, Played, Scan, Watch
from tests.kernel.verdicts.stories import ENDS, Wall
from tests.kernel.verdicts.wire import FIN, RST, Packet

TICK = 0.02  # seconds: the firewall counts in jiffies, and a packet takes a moment
ROUNDED = 0.001  # seconds by which a timestamp in a log may be off
SLOW = 1.5  # seconds that a daemon may be late on a busy machine
ON_THE_WAY = 0.1  # seconds that the daemon allows a packet on its way to the firewall
INFINITE = float("inf")
ERROR = 3  # syslog(3); what is only presumed is no error


class Kind(enum.Enum):
    """What can be wrong with what was said of one connection; the last two only say how much was presumed."""

    CUT_LIVES = "`cut` logged, a packet passed later"
    CUT_EARLY = "`cut` logged early"
    SAFE_DIES = "`safe` at death"
    DEAD_UNSAID = "dead, never judged `cut`"
    FALSE_BARE = "false `bare` although the peer's rhythm was known"
    FALSE_LATE = "false `late`"
    TAKEN_BACK = "warned and taken back more than once"
    UNWARNED = "dead, and nothing said before"
    PRESUMED_LIVES = "only presumed cut, a packet passed later"
    PRESUMED_DEAD = "only presumed cut, and dead"


NEVER = (Kind.CUT_LIVES, Kind.SAFE_DIES, Kind.DEAD_UNSAID)


@dataclass(frozen=True)
class Fault:
    """A word, or a silence, that was not true; `by` seconds, where that means something."""

    kind: Kind
    life: Life
    watch: Watch
    by: float = 0.0


@dataclass(frozen=True)
class Judged:
    """One connection as one daemon saw it. Instants are seconds of the epoch."""

    life: Life
    watch: Watch
    forgotten_at: float  # when the firewall forgot it; infinite if it was closed before
    until: float  # when this end was no longer an established connection
    passed: list[Packet]
    entries: list[Entry]
    pauses: list[Pause]

    @property
    def died(self) -> bool:
        """Whether it was forgotten while this end held it for open, and the daemon was there to warn."""
        return self.watch.ready_at < self.forgotten_at < self.until

    def faults(self) -> Iterator[Fault]:
        """All that is wrong."""
        for kind, by in self._wrong():
            yield Fault(kind, self.life, self.watch, by)

    def _wrong(self) -> Iterator[tuple[Kind, float]]:
        cuts = [entry["timestamp"] for entry in self.entries if certain_cut(entry)]
        if any(packet.at > min(cuts) + ROUNDED for packet in self.passed if cuts):
            yield Kind.CUT_LIVES, self.passed[-1].at - min(cuts)
        elif cuts and (early := self.forgotten_at - min(cuts)) > TICK and self.died:
            yield Kind.CUT_EARLY, early
        if not cuts and (presumed := [entry["timestamp"] for entry in self.entries if says_cut(entry)]):
            lives = any(packet.at > min(presumed) + ROUNDED for packet in self.passed)
            yield Kind.PRESUMED_LIVES if lives else Kind.PRESUMED_DEAD, 0
        if self.died and self._safe_at_death() and not self._was_kept_waiting():
            yield Kind.SAFE_DIES, 0
        if (chance := self._chance()) > 0 and not any(map(says_cut, self.entries)):
            yield Kind.DEAD_UNSAID, chance
        yield from {(kind, 0.0) for entry in self.entries if (kind := self._false_alarm(entry))}
        if sum(map(takes_back, self.entries)) > 1:
            yield Kind.TAKEN_BACK, 0
        if self.died and not any(map(self._in_time, self.entries)):
            yield Kind.UNWARNED, 0

    def _safe_at_death(self) -> bool:
        """Whether the word that stood at its death, or any until its end, is that it is safe."""
        before = [entry for entry in self.entries if self._in_time(entry)]
        after = [entry for entry in self.entries if self.forgotten_at < entry["timestamp"] < self.until]
        return any(verdict(entry) == "safe" for entry in before[-1:] + after)

    def _was_kept_waiting(self) -> bool:
        """Whether one end probes in time, so that it died only because the machine stood still when a probe was due."""
        wall, last = self.watch.wall, self.passed[-1].at
        in_time = any(self.life.story.settings(end).period(wall.system) < wall.timeout for end in ENDS)
        return in_time and any(each.begin < self.forgotten_at and last < each.end for each in self.pauses)

    def _in_time(self, entry: Entry) -> bool:
        """Whether it was said before the death, or decided before, and only written later by a busy machine."""
        late, left = float(entry["timestamp"]) - self.forgotten_at, float(entry["KEEPALIVE_LEFT_SEC"])
        return late <= 0 or (left > 0 and late <= self._slow(self.forgotten_at))

    def _slow(self, since: float) -> float:
        """How many seconds a daemon may be late from then on."""
        return SLOW + sum(max(0, min(each.end, self.until) - max(each.begin, since)) for each in self.pauses)

    def _chance(self) -> float:
        """For how many seconds the daemon could have said that it is dead, and more than it may take.

        It is certain at the first scan after a whole timeout since the one that saw the last packet.
        """
        if self.forgotten_at == INFINITE:
            return 0
        wall, opened = self.watch.wall, self.life.packets[0].at
        watched = self.watch.ready_at + (wall.timeout if opened < self.watch.ready_at else 0)
        seen = self._around(self.passed[-1])[1].end
        certain = max(self.forgotten_at, watched, seen + wall.timeout) + ON_THE_WAY
        looked = min((scan.end for scan in self.watch.scans if scan.begin > certain), default=INFINITE)
        return self.until - looked - SLOW

    def _false_alarm(self, entry: Entry) -> Kind | None:
        """What is wrong with a warning where a probe then kept the connection, so that nobody had to speak.

        A late scan is no fault: what the daemon could know follows from when it looked.
        """
        kind = {"bare": Kind.FALSE_BARE, "late": Kind.FALSE_LATE}.get(verdict(entry))
        seen = self._looked(entry["timestamp"])
        following = next((packet for packet in self.passed if packet.at > seen), None)
        if kind is None or following is None or not following.probe:
            return None
        if following.from_client == (self.watch.end == "client"):
            settings = self.life.story.settings(self.watch.end)
            period = settings.period(self.watch.wall.system)
        else:
            period = self._rhythm(seen) + ON_THE_WAY
        known = period < INFINITE
        return kind if known and (kind is Kind.FALSE_BARE or period < self.watch.wall.timeout) else None

    def _looked(self, until: float) -> float:
        """The end of the last scan that had ended then."""
        return max((scan.end for scan in self.watch.scans if scan.end <= until + ROUNDED), default=-INFINITE)

    def _rhythm(self, seen: float) -> float:
        """Seconds from one probe of the peer's to the next, at most, by what was seen; infinite if that is not known.

        Two of them show it that have no data between them, each in a scan in which nothing else came that ages show.
        """
        heard = [each for each in self.passed if each.probe and each.from_client != (self.watch.end == "client")]
        spans = []
        for first, second in itertools.pairwise(heard):
            before, after = self._around(first)[0].begin, self._around(second)[1].end
            data = any(each.size and first.at < each.at < second.at for each in self.passed)
            if after <= seen and not data and not self._is_hidden(first) and not self._is_hidden(second):
                spans.append(after - before)
        return min(spans, default=INFINITE)

    def _around(self, packet: Packet) -> tuple[Scan, Scan]:
        """The last scan that had surely not seen it, and the first that surely had."""
        before = [scan for scan in self.watch.scans if scan.end < packet.at]
        after = [scan for scan in self.watch.scans if scan.begin > packet.at]
        return max(before, default=Scan(-INFINITE, -INFINITE)), min(after, default=Scan(INFINITE, INFINITE))

    def _is_hidden(self, probe: Packet) -> bool:
        """Whether data or an answer of the peer may have come to the scan that first saw this probe of the peer's.

        An age is exact but for the time for which the scan read, and a tick.
        """
        before, after = self._around(probe)
        since = before.begin - (after.end - after.begin) - TICK
        near = (each for each in self.passed if since <= each.at <= after.end)
        return any(not each.probe and (each.size or each.from_client == probe.from_client) for each in near)


def judge(played: Played) -> list[Judged]:
    """Hold every word of every daemon against what passed."""
    return [
        Judged(life, watch, at, life.until[watch.end], passed, watch.entries.get(life.port, []), played.pauses)
        for life in played.lives
        for passed in [[packet for packet in life.packets if packet.passed]]
        for at in [forgotten_at(passed, played.wall)]
        for watch in played.watches
    ]


def forgotten_at(passed: list[Packet], wall: Wall) -> float:
    """When the firewall forgot this connection; infinite if it had seen its end before."""
    ends = [packet for packet in passed if packet.flags & (FIN | RST)]
    silence = max(after.at - before.at for before, after in itertools.pairwise(passed))
    assert ends or silence < wall.timeout + 5 * TICK, "the firewall did not forget, so nothing here can be judged"
    return INFINITE if ends else passed[-1].at + wall.timeout


def verdict(entry: Entry) -> str:
    """The word."""
    return str(entry["KEEPALIVE_VERDICT"])


def certain_cut(entry: Entry) -> bool:
    """Whether it says, without a doubt, that the path has forgotten."""
    return verdict(entry) == "cut" and int(entry["PRIORITY"]) <= ERROR


def says_cut(entry: Entry) -> bool:
    """Whether it says so, certainly or presumably (`cut?`)."""
    return verdict(entry).startswith("cut")


def takes_back(entry: Entry) -> bool:
    """Whether it says that an earlier warning holds no more."""
    before = entry.get("KEEPALIVE_BEFORE", "unknown")
    return verdict(entry) == "safe" or (before.startswith("cut") and not says_cut(entry))


def timeline(fault: Fault) -> str:
    """The whole story, for a person: what was done, what passed, what was said."""
    life, watch, wall = fault.life, fault.watch, fault.watch.wall
    start = life.packets[0].at
    passed = [packet for packet in life.packets if packet.passed]
    lines = [(at, f"        {deed}") for at, deed in life.deeds]
    lines += [(at, f"   {exchange}") for at, exchange in _exchanges(life.packets)]
    lines += [(forgotten_at(passed, wall), "======= the firewall forgets")]
    said = watch.entries.get(life.port, [])
    lines += [(each["timestamp"], f"  {watch.engine}: {verdict(each)}: {each['MESSAGE']}") for each in said]
    told = "\n".join(f"{at - start:8.3f} {line}" for at, line in sorted(lines) if at != INFINITE)
    return (
        f"{fault.kind.value} ({fault.by:.3f} s): {watch.engine} at the {watch.end}, every {wall.interval} s,"
        f" {wall.mode} after {wall.timeout} s; {life.story.kind!r}, port {life.port}\n"
        f"   client {life.story.client}\n   server {life.story.server}\n{told}\n"
    )


def _exchanges(packets: list[Packet]) -> Iterator[tuple[float, str]]:
    """Packets that follow each other at once, as one line."""
    line: list[Packet] = []
    for packet in packets:
        if line and (packet.at - line[-1].at > TICK or packet.passed != line[-1].passed):
            yield _exchange(line)
            line = []
        line.append(packet)
    yield _exchange(line)


def _exchange(packets: list[Packet]) -> tuple[float, str]:
    return packets[0].at, f"{'->' if packets[0].passed else '-x'} {', '.join(map(str, packets))}"
