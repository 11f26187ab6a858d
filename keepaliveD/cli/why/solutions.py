"""What would keep connections alive, as configuration: paths whose timeouts their ends support, and rules."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable
from typing import NamedTuple

from keepaliveD.cli.why import forgotten
from keepaliveD.cli.why.forgotten import HelpfulPath
from keepaliveD.cli.why.host import Host
from keepaliveD.model.connections import AT_RISK, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.explained import Explained
from keepaliveD.policy.arming.meaning import fits
from keepaliveD.policy.timeouts.scan_interval import scan_interval

Settings = tuple[tuple[str, str], ...]  # of a rule, by key

FEW = 4  # peers that are listed
COVERS = {  # what a selector matches besides the connections that were asked for
    "process": "  # covers every process of this name",
    "user": "  # covers every process of this user",
}


class Solution(NamedTuple):
    """What would keep connections alive: paths whose timeouts their ends support, and rules, by their settings.

    `interval` is the line with which sockets are scanned as often as these paths require; "" where they are already.
    """

    paths: tuple[HelpfulPath, ...] = ()
    rules: tuple[Settings, ...] = ()
    interval: str = ""

    @property
    def helps(self) -> bool:
        """Return whether there is anything in it."""
        return bool(self.paths or self.rules)

    @property
    def name(self) -> str:
        """Return the name of the file that holds it: its paths, or where it has none, what its rules arm."""
        return "-".join([path.name for path in self.paths] or [rule[0][1] for rule in self.rules])

    @property
    def lines(self) -> list[str]:
        """It, as configuration: the paths before the rules that arm by them."""
        parts = [["[watch]", self.interval]] if self.interval else []
        parts += [path.lines for path in self.paths] + [rule_lines(rule) for rule in self.rules]
        return [line for part in parts for line in ("", *part)][1:]


def of(explained: Iterable[Explained], host: Host) -> Solution:
    """Return what would help, each part once."""
    paths: dict[HelpfulPath, None] = {}
    rules: dict[Settings, None] = {}
    for its in explained:
        path = supported_path(its, host)
        if path:
            paths[path] = None
        if its.remedy:
            rules[its.remedy.settings] = None
        elif path and not (its.armed and fits(its.armed.after.times, path.seconds)):
            rules[_arming(its, path)] = None
    shortest = min((path.seconds for path in paths), default=FOREVER)
    return Solution(tuple(paths), tuple(rules), scan_interval(shortest, host.interval))


def helped(explained: Iterable[Explained], host: Host) -> list[Explained]:
    """Return those of the connections for which there is a rule or a path to write."""
    return [one for one in explained if one.remedy or supported_path(one, host)]


def supported_path(its: Explained, host: Host) -> HelpfulPath | None:
    """Return the path to write where ends of connections say more of its timeout than anybody has written down."""
    one = its.connection
    if not its.watched or its.hopeless or one.counts is WhatCounts.DATA:
        return None
    return forgotten.helpful_path(one, host.forgotten)


def _arming(its: Explained, path: HelpfulPath) -> Settings:
    """Return the rule that keepalivectl deaths proposes as well: it arms connections of the unit on this path."""
    unit = its.connection.owner.unit
    return (
        ("path", path.name),
        *((("unit", glob.escape(unit)),) if unit else ()),
        ("action", "enable"),
        ("idle", "auto"),
    )


def rule_lines(settings: Settings) -> list[str]:
    """Return a rule as configuration."""
    return ["[[arm]]", *(f"{key} = {literal(key, value)}{COVERS.get(key, '')}" for key, value in settings)]


def assumed(explained: Iterable[Explained]) -> list[str]:
    """Return a path as configuration, for peers whose timeout is a guess: each one, or the first few.

    A connection that is safe by a guess may be at risk.
    """
    peers = {
        one.connection.remote.address: ":" in one.connection.remote.address
        for one in explained
        if one.connection.origin.guessed and one.connection.verdict in {*AT_RISK, Verdict.SAFE} and one.watched
    }
    if not peers:
        return []
    networks = [f"{address}/{128 if is_v6 else 32}" for address, is_v6 in list(peers.items())[:FEW]]
    return ["[[path]]", 'name = "..."', f"networks = {json.dumps(networks)}", 'timeout = "..."']


def literal(key: str, value: str) -> str:
    """Return a value as TOML: a user is a number, all others are text, whose JSON is TOML as well."""
    return value if key == "user" else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
