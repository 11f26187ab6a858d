"""The story of one connection: what it did, what scans showed, and what was said."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import Verdict
from keepaliveD.model.sockets import SocketTable, Timer
from tests.simulation.connection import Plan
from tests.simulation.decider import CERTAIN
from tests.simulation.kernel import Options
from tests.simulation.run import Run, run
from tests.simulation.truth import Breach, Judge
from tests.simulation.world import World

BEFORE, AFTER = 2.5, 1.2  # timeouts around what is wrong
LONGEST = 45  # lines


class Line(NamedTuple):
    """What happened; lines of one kind in a row are told as one."""

    when: float
    what: str
    kind: str


def tell(done: Run, breach: Breach) -> str:
    """Play that connection alone, at the same scans, and tell the part that matters."""
    alone = run(done.world, done.engine, only=breach.number, at=done.scans)
    found = {(each.wrong, each.number) for each in Judge(alone).breaches()}
    connection = alone.connections[breach.number]
    plan = connection.plan
    lines = [Line(when, what, what) for when, what in connection.story or ()]
    lines += _scans(alone, breach.number)
    gone = connection.forgotten_at()
    if gone < done.world.until:
        lines.append(Line(gone, "=== THE PATH HAS FORGOTTEN IT ===", "gone"))
    head = [
        breach.wrong.value + ("" if (breach.wrong, breach.number) in found else " (not when played alone)"),
        f"  {done.engine.value}, at {breach.when:.3f}: script/simulate {done.world.command} --only {breach.number}",
        *_about(done.world, plan),
    ]
    chosen = [line for line in sorted(lines) if _near(line.when, breach.when, plan.timeout + done.world.interval)]
    return "\n".join([*head, *_folded(chosen, breach.when)])


def _near(when: float, middle: float, timeout: float) -> bool:
    return middle - BEFORE * timeout <= when <= middle + AFTER * timeout


def _folded(lines: list[Line], middle: float) -> list[str]:
    """One line for each row of the same kind, but for its first and last; and not too many in all."""
    kept = [
        line
        for before, line, after in zip([None, *lines], lines, [*lines[1:], None], strict=False)
        if not (before and after and before.kind == line.kind == after.kind)
    ]
    at = next((number for number, line in enumerate(kept) if line.when >= middle), len(kept))
    kept = kept[max(0, at - LONGEST * 2 // 3) :][:LONGEST]
    told = []
    for before, line in zip([None, *kept], kept, strict=False):
        if before and before.kind == line.kind and lines.index(line) > lines.index(before) + 1:
            told.append(f"{'':14}  ... {lines.index(line) - lines.index(before) - 1} more ...")
        told.append(f"  {line.when:12.3f}  {line.what}")
    return told


def _about(world: World, plan: Plan) -> list[str]:
    firewalls = [
        f"{each.timeout:g} s {'reject' if each.rejects else 'drop'} ({each.refresh.value})" for each in plan.firewalls
    ]
    systems = [
        "; ".join(f"{each.idle}/{each.interval}/{each.probes} since {each.since:.1f}" for each in sysctls)
        for sysctls in (plan.here_sysctls, plan.peer_sysctls)
    ]
    return [
        f"  path forgets after {plan.timeout:g} s: {', '.join(firewalls)}; latency {plan.latency:g} s a hop",
        f"  scan every {world.interval:g} s from 0 on; warn_before {world.warn_before:g} s; program: {plan.about}",
        f"  here: {_options(plan.here)}, system {systems[0]}; peer: {_options(plan.peer)}, system {systems[1]}",
        f"  paused {world.pauses}, asleep {world.asleep}",
        f"  outages {[(each.start, each.end, each.segment) for each in plan.outages]}",
    ]


def _options(options: Options) -> str:
    if not options.on:
        return "keepalive off"
    user = f", user timeout {options.user_timeout:g} s" if options.user_timeout else ""
    return f"keepalive {options.idle}/{options.interval}/{options.probes}{user}"


def _scans(alone: Run, number: int) -> list[Line]:
    """What each scan showed, and what was said."""
    words = dict(alone.words.get(number, ()))
    lines = []
    for index, (table, said) in enumerate(alone.shown):
        rows = np.flatnonzero(said.cookie == number + 1)
        if not len(rows):
            continue
        verdict = int(said.verdict[rows[0]])
        name = f"{Verdict(verdict & ~CERTAIN).label}{'' if verdict & CERTAIN else '?'}"
        word = words.get(index)
        logged = f"   *** LOGGED {word.verdict.label}{'' if word.certain else '?'}" if word else ""
        shown, kind = _row(table, number)
        lines.append(Line(alone.scans[index].start, f"scan  {shown} -> {name}{logged}", f"{kind}{name}{logged}"))
    return lines


def _row(table: SocketTable, number: int) -> tuple[str, str]:
    """What the table holds of it, and the part that does not change by time alone."""
    sockets = table.sockets
    row = np.flatnonzero(sockets["cookie"] == number + 1)[0]
    ages = "/".join(f"{sockets[name][row]:.2f}" for name in ("since_sent", "since_received", "since_acked"))
    timer = Timer(int(sockets["timer"][row])).name.lower()
    segments = f"{sockets['segments_in'][row]}/{sockets['segments_out'][row]}"
    idle = f" keepidle {sockets['keepidle'][row]}/{sockets['keepintvl'][row]}" if sockets["keepidle"][row] else ""
    text = f"ages {ages} segments {segments} {timer} {sockets['expires'][row]:.2f}{idle}"
    return text, f"{segments}{timer}{idle}"
