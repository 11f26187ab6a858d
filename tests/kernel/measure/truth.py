"""What really is on the paths that are measured, and how far each finding is from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.kernel.measure.stage import Found
from tests.support.chain import Device

LATE = 3.0  # seconds by which a service on a busy machine may close late
DELAY = 0.5  # seconds that a packet may take to a device on a busy machine, which cannot be told from silence
TOLERANCE = 0.15  # of a device's timeout: how far the middle of its bracket may be from that


@dataclass(frozen=True)
class Truth:
    """What is right to say of a path. `revived_by`: all that may be said."""

    timeout: float = 0.0
    closes: float = 0.0
    how: str = "silence"
    reset_by: str | None = None
    helps: bool = True
    several_devices: bool = False
    revived_by: tuple[str | None, ...] = (None,)

    def faults(self, found: Found) -> Iterator[str]:
        """Yield what is wrong about a bracket: it does not hold the timeout, or there is none."""
        survived, forgotten = found["survived"], found["forgotten"]
        if self.closes:
            if forgotten is not None:
                yield "wrong"
            elif not abs((found["server_closes"] or 0.0) - self.closes) <= LATE:
                yield "missed"
            return
        if (survived is not None and survived > self.timeout + DELAY) or (
            forgotten is not None and forgotten < self.timeout - DELAY
        ):
            yield "wrong"
        elif survived is None or forgotten is None:
            yield "missed"

    def untrue(self, found: Found) -> Iterator[str]:
        """Yield which other words of a finding are not true, and whether a service is left with connections."""
        if found.get("held"):
            yield "held"
        if self.closes:
            return
        expected = {"how": self.how, "reset_by": self.reset_by, "several_devices": self.several_devices}
        yield from (key for key, value in expected.items() if found[key] != value)
        if found["keepalive_helps"] is (not self.helps):
            yield "keepalive_helps"
        if found["revived_by"] not in self.revived_by:
            yield "revived_by"


@dataclass(frozen=True)
class Run:
    """One measurement: what was found, or why nothing was, and how long it took in seconds."""

    name: str
    found: Found
    took: float
    failed: str = ""


def rows(runs: Sequence[Run], truths: Mapping[str, Truth]) -> Iterator[str]:
    """Yield a table of many measurements, a row for each path."""
    yield "| path | runs | wrong bracket | none | survived | forgotten | ratio, median (widest) | untrue | took |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, truth in truths.items():
        mine = [run for run in runs if run.name == name]
        done = [run for run in mine if not run.failed]
        if done:
            yield _row(name, truth, mine, done)
    total = [fault for run in runs if not run.failed for fault in truths[run.name].faults(run.found)]
    yield (
        f"{len(runs)} measurements: {total.count('wrong')} wrong brackets, {total.count('missed')} without one, "
        f"{sum(bool(run.failed) for run in runs)} failed"
    )


def _row(name: str, truth: Truth, mine: Sequence[Run], done: Sequence[Run]) -> str:
    faults = [fault for run in done for fault in truth.faults(run.found)]
    untrue = sum(bool(list(truth.untrue(run.found))) for run in done)
    survived = [run.found["survived"] for run in done if run.found["survived"]]
    forgotten = [run.found["forgotten"] for run in done if run.found["forgotten"]]
    wide = [run.found["forgotten"] / run.found["survived"] for run in done if has_bracket(run)]
    took = median(run.took for run in done)
    return (
        f"| {name} | {len(mine)} | {faults.count('wrong')} | {faults.count('missed') + len(mine) - len(done)} "
        f"| {_range(survived)} | {_range(forgotten)} "
        f"| {f'{median(wide):.3f} ({max(wide):.3f})' if wide else '-'} | {untrue} | {took:.0f} s |"
    )


def has_bracket(run: Run) -> bool:
    """Whether both ends are known."""
    return bool(run.found["survived"] and run.found["forgotten"])


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f}-{max(values):.1f} s" if values else "-"


def wrong_hops(devices: Sequence[Device], found: Found) -> Iterator[str]:
    """Yield what is wrong about a map of hops: each is to show its own timeout, and the shortest one to be named."""
    if [hop["hops"] for hop in found["hops"]] != [[number] for number in range(1, len(devices) + 1)]:
        yield f"hops {[hop['hops'] for hop in found['hops']]}"
        return
    for number, (device, hop) in enumerate(zip(devices, found["hops"], strict=True), start=1):
        survived, forgotten = hop["survived"], hop["forgotten"]
        if device.kind in ("none", "mute"):
            if forgotten is not None:
                yield f"hop {number} forgets nothing, but is said to forget within {forgotten:.1f} s"
        elif survived is None or forgotten is None:
            yield f"hop {number} is said to forget after {survived} to {forgotten} s"
        elif not (survived - DELAY <= device.timeout <= forgotten + DELAY):
            yield f"hop {number} forgets after {device.timeout} s, not {survived:.1f} to {forgotten:.1f} s"
        elif abs((survived + forgotten) / 2 - device.timeout) > TOLERANCE * device.timeout:
            yield f"hop {number}: {survived:.1f} to {forgotten:.1f} s is too wide"
    shortest = min((device.timeout, number) for number, device in enumerate(devices, start=1) if device.timeout)[1]
    if shortest not in (found["stopped_by"] or ()):
        yield f"stopped by {found['stopped_by']}, not by {shortest}"
