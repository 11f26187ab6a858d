"""One host and its connections, drawn from a seed."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from dataclasses import dataclass
from typing import Any

from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from tests.simulation.connection import Plan
from tests.simulation.kernel import NEVER, Clock, Options, Sysctls
from tests.simulation.path import Firewall, Outage, Refresh
from tests.simulation.programs import PROGRAMS
from tests.support.tables import CONFIGURED

TIMEOUTS = (8, 8, 20, 60, 60, 120, 240, 350, 900, 3600)
KERNELS_OWN = Sysctls(7200, 75, 9)


@dataclass(frozen=True, slots=True)
class World:
    """What all connections of a host share. Instants are seconds; the daemon starts at 0."""

    seed: str
    command: str  # the options that draw it again
    size: int
    until: float
    interval: float
    jitter: float  # seconds by which a scan may come late
    takes: float  # seconds that a scan reads rows for, at most
    warn_before: float
    paths: tuple[Path, ...]
    arm: tuple[ArmRule, ...]
    pauses: tuple[tuple[float, float], ...]  # the daemon is stopped
    asleep: tuple[tuple[float, float], ...]  # the machine is suspended
    outages: tuple[Outage, ...]
    sysctls: tuple[Sysctls, ...]
    clock: Clock


def quiet_host(seed: str, timeout: float, until: float, **others: Any) -> World:
    """Return one that is scanned every 5 s, with one connection, and to which nothing happens but what is given."""
    quiet = World(
        seed=seed,
        command="",
        size=1,
        until=until,
        interval=5.0,
        jitter=0.05,
        takes=0.001,
        warn_before=30.0,
        paths=(Path("path", timeout, CONFIGURED),),
        arm=(),
        pauses=(),
        asleep=(),
        outages=(),
        sysctls=(KERNELS_OWN,),
        clock=Clock(0),
    )
    return dataclasses.replace(quiet, **others)


def network(number: int) -> ipaddress.IPv4Network:
    """The peers on a path."""
    return ipaddress.IPv4Network((0x0A000000 + (number << 16), 16))


def world(
    seed: str, size: int, *, arming: bool, timeout: float = 0.0, interval: float = 0.0, only_data: bool = False
) -> World:
    """Draw one; a timeout or an interval may be given. `only_data`: every other path counts only data."""
    rng = random.Random(seed)
    command = _command(seed, arming, timeout, interval) + " --only-data" * only_data
    timeouts = [timeout or float(rng.choice(TIMEOUTS))]
    timeouts += [] if timeout else [timeouts[0] * rng.choice((0.5, 0.8, 1.5, 3.0)) for _ in range(rng.randint(0, 2))]
    smallest, largest = min(timeouts), max(timeouts)
    interval = interval or max(0.5, smallest * rng.choice((0.02, 0.05, 0.1, 0.1, 0.2, 0.25, 0.5, 1.2, 2.0)))
    until = rng.uniform(15, 30) * largest
    paths = tuple(
        Path(
            f"path{number}",
            timeout,
            CONFIGURED,
            (network(number),) if number else (),
            counts=WhatCounts.DATA if only_data and number % 2 == 0 else WhatCounts.PACKETS,
        )
        for number, timeout in enumerate(timeouts)
    )
    changed = rng.uniform(-3 * smallest, until) if rng.random() < 0.4 else NEVER
    sysctls = [KERNELS_OWN if rng.random() < 0.6 else _tuned(rng, smallest)]
    if changed < NEVER:
        tuned = _tuned(rng, smallest)
        sysctls.append(Sysctls(tuned.idle, tuned.interval, tuned.probes, changed))
    asleep = _gaps(rng, until, smallest, 0.15)
    return World(
        seed=seed,
        command=command,
        size=size,
        until=until,
        interval=interval,
        jitter=min(0.05, interval / 20) if rng.random() < 0.8 else interval / 4,
        takes=rng.choice((0.001, 0.02, 0.2)),
        warn_before=max(interval, rng.choice((0.1, 0.3, 0.5, 2.0)) * largest),
        paths=paths,
        arm=_rules(rng, smallest) if arming else (),
        pauses=_gaps(rng, until, smallest, 0.15),
        asleep=asleep,
        outages=_outages(rng, until, smallest),
        sysctls=tuple(sysctls),
        clock=Clock(rng.randrange(1 << 23), asleep),
    )


def _command(seed: str, arming: bool, timeout: float, interval: float) -> str:
    options = {"--timeout": timeout, "--interval": interval}
    given = [f"{name} {value:g}" for name, value in options.items() if value]
    return " ".join([f"--world {seed}", *(["--arming"] if arming else []), *given])


def _tuned(rng: random.Random, timeout: float) -> Sysctls:
    return Sysctls(max(1, int(timeout * rng.uniform(0.2, 1.2))), max(1, int(timeout * rng.uniform(0.05, 0.5))), 9)


def _gaps(rng: random.Random, until: float, timeout: float, chance: float) -> tuple[tuple[float, float], ...]:
    if rng.random() > chance:
        return ()
    start = rng.uniform(0.1, 0.8) * until
    return ((start, start + timeout * rng.uniform(0.1, 3.0)),)


def _outages(rng: random.Random, until: float, timeout: float) -> tuple[Outage, ...]:
    if rng.random() > 0.3:
        return ()
    starts = sorted(rng.uniform(0, until) for _ in range(rng.randint(1, 3)))
    return tuple(Outage(start, start + timeout * rng.uniform(0.02, 1.5), rng.choice((0, 0, 9))) for start in starts)


def _rules(rng: random.Random, timeout: float) -> tuple[ArmRule, ...]:
    idle = None if rng.random() < 0.7 else max(1, int(timeout * rng.uniform(0.2, 0.6)))
    action = rng.choice((ArmAction.ENABLE, ArmAction.ENABLE, ArmAction.REARM))
    return (ArmRule("arm[1]", action, idle, rng.choice((20, 20, 5, 1)), rng.choice((31, 31, 9))),)


def plan(world: World, number: int) -> Plan:
    """Draw one connection; its seed is the world's and its number, so that it can be drawn alone."""
    rng = random.Random(f"{world.seed}/{number}")
    path = rng.randrange(len(world.paths))
    timeout = world.paths[path].timeout
    largest = max(each.timeout for each in world.paths)
    born = world.clock.wakes(rng.uniform(-3 * largest, 0.9 * world.until))
    firewalls, honest = _firewalls(rng, timeout)
    if world.paths[path].counts is WhatCounts.DATA:
        firewalls, honest = [Firewall(timeout, firewalls[0].rejects, Refresh.BYTES)], True
    program = rng.choices(list(PROGRAMS), list(PROGRAMS.values()))[0]
    outages = [
        outage if outage.segment == 0 else Outage(outage.start, outage.end, len(firewalls)) for outage in world.outages
    ]
    drawn = Plan(
        number=number,
        born=born,
        ends=born + timeout * rng.uniform(3, 14),
        timeout=timeout,
        path=path,
        firewalls=firewalls,
        honest=honest,
        latency=rng.choice((0.0002, 0.002, 0.01)),
        here=_options(rng, timeout, rng.random() < 0.5),
        peer=_options(rng, timeout, rng.random() < 0.45),
        here_sysctls=world.sysctls,
        peer_sysctls=(KERNELS_OWN,) if rng.random() < 0.7 else (_tuned(rng, timeout),),
        here_clock=world.clock,
        peer_clock=Clock(rng.randrange(1 << 23)),
        program=program(rng, timeout),
        thinks=rng.choice((0.005, 0.1, 1.0)),
        delays_acks=rng.random() < 0.3,
        outages=outages,
        vanishes=born + timeout * rng.uniform(0, 10) if rng.random() < 0.04 else NEVER,
        read_offset=rng.random(),
        about=program.__name__,
    )
    if rng.random() < 0.08:
        who = rng.choice(("here", "peer"))
        options = _options(rng, timeout, rng.random() < 0.7)
        drawn.changes.append((born + timeout * rng.uniform(0, 8), who, options))
    return drawn


def _firewalls(rng: random.Random, timeout: float) -> tuple[list[Firewall], bool]:
    """Mostly one that is as configured; else several, or one that counts not every packet."""
    rejects = rng.random() < 0.5
    which = rng.random()
    if which < 0.7:
        return [Firewall(timeout, rejects)], True
    if which < 0.85:
        others = [Firewall(timeout * rng.uniform(1.0, 3.0), rng.random() < 0.5) for _ in range(rng.randint(1, 2))]
        chain = [Firewall(timeout, rejects), *others]
        rng.shuffle(chain)
        return chain, True
    refresh = rng.choice((Refresh.OUT, Refresh.OUT, Refresh.IN, Refresh.DATA))
    return [Firewall(timeout, rejects, refresh)], False


def _options(rng: random.Random, timeout: float, on: bool) -> Options:
    """What programs choose: nothing, little, or all; often about the path's timeout."""
    options = Options(on)
    if rng.random() < 0.75:
        factor = rng.choice((rng.uniform(0.1, 0.8), rng.uniform(0.8, 1.1), 1.0, rng.uniform(1.1, 3.0)))
        options.idle = min(32767, max(1, int(timeout * factor)))
    if rng.random() < 0.6:
        options.interval = min(32767, max(1, int(timeout * rng.choice((0.02, 0.1, 0.5, 1.5)))))
    if rng.random() < 0.5:
        options.probes = rng.choice((1, 3, 5, 20))
    if rng.random() < 0.08:
        options.user_timeout = max(0.5, timeout * rng.uniform(0.05, 2.0))
    return options
