"""Describe the arming rules in words, and warn of rules that will not do what they are meant to."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Sequence

from keepaliveD.config.configuration import Config
from keepaliveD.config.units import SUFFIXES
from keepaliveD.model.connections import AT_RISK, WhatCounts
from keepaliveD.model.duration import exact, span
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from keepaliveD.model.text import beginning_of, quoted
from keepaliveD.policy.arming.arming import times
from keepaliveD.policy.arming.connect import ConnectPlan, plan
from keepaliveD.policy.arming.meaning import ENOUGH, fits, probes_before

EFFECTS = {
    ArmAction.OBSERVE: "changes nothing",
    ArmAction.REARM: "restarts timers where keepalive is on",
    ArmAction.ENABLE: "switches keepalive on",
}
AT_CONNECT = "new connections are armed at connect, if BPF is permitted"
OF_KNOWN_CGROUPS = " and a scan has seen the unit or container"
NOT_AFTERWARDS = ", so not those that start after the daemon stops"  # keepalive.survive_stop
AT_A_SCAN = "new connections are armed at the next scan"
NAME_LENGTH = 15  # bytes of a process name (TASK_COMM_LEN - 1, include/linux/sched.h)
WITHOUT_PROCESSES = (".timer", ".target", ".path", ".device", ".automount")  # units (systemd.unit(5))
TEMPLATE = "@.service"
EVERY_OTHER = "keepalive.arm"  # the rule for what no other one matches: each path is warned of its times
LIKENESS = 0.8  # of a mistyped suffix to the right one (difflib.SequenceMatcher.ratio)


def meaning(config: Config) -> Iterator[str]:
    """Yield a line for each rule, in the order in which they are tried; then what the kernel has no room for."""
    rules = config.arm
    width = max(len(rule.name) for rule in rules)
    at_connect = _at_connect(config)
    for number, rule in enumerate(rules):
        when = _when(rule, followed=number in at_connect.followed, survive=config.survive_stop)
        yield f"rule {rule.name.ljust(width)}  {_effect(rule)}: {_whom(rule, rules)}{when}"
    if at_connect.followed:
        for path in config.paths:
            if path.interface:
                yield f"new connections on path {quoted(path.name)} are armed at the next scan: an interface selects it"
    yield from at_connect.cut


def _at_connect(config: Config) -> ConnectPlan:
    """What a daemon would have the kernel do, where BPF can be used."""
    if config.engine == "netlink" or not config.all_namespaces:
        return ConnectPlan()
    return plan(config.arm, config.ignore, config.paths)


def _when(rule: ArmRule, *, followed: bool, survive: bool) -> str:
    if rule.action is not ArmAction.ENABLE:
        return ""
    if not followed:
        return f"; {AT_A_SCAN}"
    known = f"{OF_KNOWN_CGROUPS}{NOT_AFTERWARDS if survive else ''}" if rule.asks_for_owner else ""
    return f"; {AT_CONNECT}{known}"


def _effect(rule: ArmRule) -> str:
    effect = EFFECTS[rule.action]
    if rule.action is ArmAction.OBSERVE:
        return effect
    if rule.idle is None:
        return f"{effect} (idle auto, interval {exact(rule.interval)}, probes {rule.probes})"
    return f"{effect} ({Keepalive(rule.idle, rule.interval, rule.probes)})"


def _whom(rule: ArmRule, rules: Sequence[ArmRule]) -> str:
    selectors = {
        "unit": map(quoted, rule.units),
        "process": map(quoted, rule.processes),
        "container": map(quoted, rule.containers),
        "user": map(str, rule.users),
        "peer in": map(str, rule.networks),
        "port": map(str, rule.ports),
        "path": map(quoted, rule.paths),
        "verdict": (verdict.label for verdict in rule.verdicts),
    }
    said = [f"{name} {' or '.join(words)}" for name, each in selectors.items() if (words := list(each))]
    return ", ".join(said) or ("all connections" if rule is rules[0] else "all others")


def warnings(config: Config) -> Iterator[str]:
    """What is valid and yet will not do what it is meant to."""
    if config.enables and not config.apply:
        yield (
            'rule keepalive.arm: "enable" has no effect, because keepalive.apply is false; '
            'write an [[arm]] entry with action = "enable"'
        )
    for number, rule in enumerate(config.arm):
        if before := next((each for each in config.arm[:number] if _takes_all_of(each, rule)), None):
            if rule is not config.arm[-1]:
                what = "everything" if _takes_everything(before) else "the same connections"
                yield f"rule {rule.name}: never matches, {before.name} takes {what}; write it before that"
            continue
        yield from _unknown_paths(rule, config.paths)
        yield from _names_of_no_process(rule)
        yield from _units_without_processes(rule)
        if rule.action is not ArmAction.OBSERVE:
            yield from _without_effect(rule, config)
            yield from _nowhere(rule, config.paths) or _too_late(rule, config)
            yield from _in_vain(rule, config.paths)


def _takes_everything(rule: ArmRule) -> bool:
    return _takes_all_of(rule, ArmRule("", ArmAction.OBSERVE, None, 1, 1))


def _takes_all_of(one: ArmRule, other: ArmRule) -> bool:
    """Return whether one rule matches all that another one matches, as far as their selectors show it."""
    pairs = (
        (one.units, other.units),
        (one.processes, other.processes),
        (one.containers, other.containers),
        (one.users, other.users),
        (one.networks, other.networks),
        (one.ports, other.ports),
        (one.paths, other.paths),
    )
    wider = all(not mine or (theirs and set(mine) >= set(theirs)) for mine, theirs in pairs)
    return wider and (not one.verdicts or set(one.verdicts) >= set(other.verdicts or AT_RISK))


def _unknown_paths(rule: ArmRule, paths: Sequence[Path]) -> Iterator[str]:
    names = [path.name for path in paths]
    for pattern in rule.paths:
        if not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {quoted(close[0])}?" if close else f"known: {', '.join(map(quoted, names))}"
            yield f"rule {rule.name}: path {quoted(pattern)} is not configured; {hint}"


def _names_of_no_process(rule: ArmRule) -> Iterator[str]:
    """Yield a warning for each process name that is a path, or longer than the kernel keeps it."""
    for name in rule.processes:
        short = beginning_of(name.rpartition("/")[2], NAME_LENGTH)
        if name.startswith("/"):
            yield (
                f"rule {rule.name}: process {quoted(name)} never matches: it is a path, and a process name has none; "
                f"write {quoted(short)}"
            )
        elif beginning_of(name, NAME_LENGTH) != name and not any(wildcard in name for wildcard in "*?["):
            yield (
                f"rule {rule.name}: process {quoted(name)} never matches: a process name has at most {NAME_LENGTH} "
                f"bytes; write {quoted(short)}"
            )


def _units_without_processes(rule: ArmRule) -> Iterator[str]:
    """Yield a warning for each unit that can own no connection, or whose suffix is mistyped."""
    for unit in rule.units:
        name, _, suffix = unit.removesuffix(".service").rpartition(".")
        if unit.endswith(WITHOUT_PROCESSES):
            stem = unit.rpartition(".")[0]
            why, right = f"a .{unit.rpartition('.')[2]} unit has no processes", f"write {quoted(f'{stem}.service')}"
        elif unit.endswith(TEMPLATE):
            right = f"write {quoted(unit.replace(TEMPLATE, '@*.service'))}"
            why = "a template has no processes, only its instances have"
        elif name and (close := difflib.get_close_matches(f".{suffix}", SUFFIXES, n=1, cutoff=LIKENESS)):
            if close[0] == f".{suffix}":
                continue
            why, right = f"there are no .{suffix} units", f"did you mean {quoted(name + close[0])}?"
        else:
            continue
        yield f"rule {rule.name}: unit {quoted(unit)} never matches: {why}; {right}"


def _without_effect(rule: ArmRule, config: Config) -> Iterator[str]:
    """Where the system's idle time is shorter, it stays: nothing is ever weakened."""
    if config.apply and rule.idle is not None and rule.idle > config.keepalive.idle:
        yield (
            f"rule {rule.name}: idle {exact(rule.idle)} is longer than keepalive.idle "
            f"({exact(config.keepalive.idle)}), "
            "so it has no effect on sockets that use the system's settings; write at most that"
        )


def _nowhere(rule: ArmRule, paths: Sequence[Path]) -> list[str]:
    """Return a warning of a rule whose own times are too long for every path that it may concern."""
    concerned = [path for path in paths if path.counts is WhatCounts.PACKETS and _may_concern(rule, path)]
    if rule.name == EVERY_OTHER or rule.idle is None or not concerned:
        return []
    if any(fits(times(rule, path.timeout), path.timeout) for path in concerned):
        return []
    most = max(concerned, key=lambda path: path.timeout)
    which = f"path {quoted(most.name)}" if len(concerned) == 1 else f"each path, also for {quoted(most.name)}"
    return [
        f"rule {rule.name}: arms nothing: idle {exact(rule.idle)}, interval {exact(rule.interval)} is too long for "
        f"{which}, which forgets after {span(most.timeout)}; {_remedy(rule)}"
    ]


def _too_late(rule: ArmRule, config: Config) -> Iterator[str]:
    """Not where it takes the system's times, of which each path is warned anyway."""
    for path in config.paths:
        if path.counts is WhatCounts.DATA:
            continue
        keepalive = times(rule, path.timeout)
        probes = probes_before(keepalive, path.timeout)
        if probes < ENOUGH and keepalive != config.keepalive and _may_concern(rule, path):
            yield (
                f"rule {rule.name}: only {probes:.0f} of at least {ENOUGH} probes can leave before path "
                f"{quoted(path.name)} forgets after {span(path.timeout)}; {_remedy(rule)}"
            )


def is_armed(config: Config, path: Path) -> bool:
    """Return whether a rule arms connections at risk on this path in time: who wrote it has chosen which of them."""
    return any(
        rule.action is ArmAction.ENABLE
        and _may_concern(rule, path)
        and probes_before(times(rule, path.timeout), path.timeout) >= ENOUGH
        for rule in config.arm
    )


def _in_vain(rule: ArmRule, paths: Sequence[Path]) -> Iterator[str]:
    """Yield a warning for each path on which the rule arms nothing although it names the path."""
    for path in paths:
        if rule.paths and path.counts is WhatCounts.DATA and _may_concern(rule, path):
            yield (
                f"rule {rule.name}: arms nothing on path {quoted(path.name)}: it counts only data, so keepalive does "
                "not help there"
            )


def _remedy(rule: ArmRule) -> str:
    if rule.probes < ENOUGH:
        return f"write probes = {ENOUGH} or more"
    if rule.idle is None:
        return "no idle time in whole seconds is short enough"
    return 'choose a shorter idle or interval, or idle = "auto"'


def _may_concern(rule: ArmRule, path: Path) -> bool:
    named = not rule.paths or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in rule.paths)
    apart = rule.networks and path.networks and not any(a.overlaps(b) for a in rule.networks for b in path.networks)
    return named and not apart
