"""The rules of arming in words, and what is doubtful about each."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Sequence

from keepaliveD.config import Config
from keepaliveD.model.connections import AT_RISK
from keepaliveD.model.duration import span
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.rules import ArmAction, ArmRule, Path
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming import times
from keepaliveD.policy.connect import Plan, plan
from keepaliveD.policy.meaning import ENOUGH, probes_before

EFFECTS = {
    ArmAction.OBSERVE: "touches nothing",
    ArmAction.REARM: "sets timers anew where keepalive is on",
    ArmAction.ENABLE: "switches keepalive on",
}
AT_CONNECT = "new ones at connect, where BPF can be used"
OF_KNOWN_CGROUPS = ", of units and containers seen at a scan before"
NOT_AFTERWARDS = ", so not of those that start after the daemon has stopped"  # keepalive.survive_stop
AT_A_SCAN = "new ones at the next scan"


def meaning(config: Config) -> Iterator[str]:
    """A line for each rule, in the order in which they are tried; then what the kernel has no room for."""
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


def _at_connect(config: Config) -> Plan:
    """What a daemon would have the kernel do, where BPF can be used."""
    if config.engine == "netlink" or not config.all_namespaces:
        return Plan()
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
        return f"{effect} (idle auto, interval {rule.interval}s, probes {rule.probes})"
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
    taken_by: ArmRule | None = None
    for rule in config.arm:
        if taken_by:
            if rule is not config.arm[-1]:
                yield f"rule {rule.name}: never matches, {taken_by.name} takes everything; write it before that"
            continue
        yield from _unknown_paths(rule, config.paths)
        if rule.action is not ArmAction.OBSERVE:
            yield from _without_effect(rule, config)
            yield from _too_late(rule, config)
        if _takes_everything(rule):
            taken_by = rule


def _takes_everything(rule: ArmRule) -> bool:
    selective = rule.asks_for_owner or rule.users or rule.networks or rule.ports or rule.paths
    return not selective and (not rule.verdicts or set(rule.verdicts) >= AT_RISK)


def _unknown_paths(rule: ArmRule, paths: Sequence[Path]) -> Iterator[str]:
    names = [path.name for path in paths]
    for pattern in rule.paths:
        if not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {quoted(close[0])}?" if close else f"known: {', '.join(map(quoted, names))}"
            yield f"rule {rule.name}: path {quoted(pattern)} is not configured; {hint}"


def _without_effect(rule: ArmRule, config: Config) -> Iterator[str]:
    """Where the system's idle time is shorter, it stays: nothing is ever weakened."""
    if config.apply and rule.idle is not None and rule.idle > config.keepalive.idle:
        yield (
            f"rule {rule.name}: idle {rule.idle}s is longer than keepalive.idle ({config.keepalive.idle}s), "
            "so it has no effect on sockets that follow the system; write at most that"
        )


def _too_late(rule: ArmRule, config: Config) -> Iterator[str]:
    """Not where it takes the system's times, of which each path is warned anyway."""
    for path in config.paths:
        keepalive = times(rule, path.timeout)
        probes = probes_before(keepalive, path.timeout)
        if probes < ENOUGH and keepalive != config.keepalive and _may_concern(rule, path):
            yield (
                f"rule {rule.name}: {probes:.0f} of at least {ENOUGH} probes leave before path {quoted(path.name)} "
                f"forgets after {span(path.timeout)}; {_remedy(rule)}"
            )


def _remedy(rule: ArmRule) -> str:
    if rule.probes < ENOUGH:
        return f"write at least {ENOUGH} probes"
    if rule.idle is None:
        return "no whole seconds are short enough"
    return 'choose a shorter idle or interval, or idle = "auto"'


def _may_concern(rule: ArmRule, path: Path) -> bool:
    named = not rule.paths or any(fnmatch.fnmatchcase(path.name, pattern) for pattern in rule.paths)
    apart = rule.networks and path.networks and not any(a.overlaps(b) for a in rule.networks for b in path.networks)
    return named and not apart
