"""Sockets at connect, and what becomes of each: by policy.socket_settings, and by the program in the kernel.

Both decide the same by themselves, in two languages: this table holds them against each other.
"""

from __future__ import annotations

from typing import NamedTuple

from keepaliveD.model.connections import Verdict
from keepaliveD.model.keepalive import FIELDS, Found, Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import ArmAction, ArmRule, Path, Wish
from keepaliveD.policy.arming.arming import times
from keepaliveD.policy.arming.socket_settings import Wanted, decide_arming
from tests.support.tables import CONFIGURED

Times = tuple[int, int, int]  # idle time, interval, probes

SHIPPED = (7200, 75, 9)


class Case(NamedTuple):
    """Sysctls, what a program chooses before it connects (0: nothing), and the sysctls afterwards."""

    system: Times = SHIPPED
    chosen: Times = (0, 0, 0)
    on: bool = False
    later: Times = SHIPPED
    user_timeout: int = 0

    @property
    def stands(self) -> SocketKeepalive:
        """What stands in the socket."""
        return SocketKeepalive(
            self.on, Keepalive(*(own or its for own, its in zip(self.chosen, self.system, strict=True)))
        )

    @property
    def found(self) -> Found:
        """The same, as BPF tells it."""
        inherited = sum(field for field, own in zip(FIELDS, self.chosen, strict=True) if not own)
        return Found(self.stands, Own(inherited), Keepalive(*self.system), self.user_timeout)


class Rule(NamedTuple):
    """What a rule wants (no idle time: the longest that fits), and the timeout of the path."""

    idle: int | None
    interval: int
    probes: int
    timeout: float

    @property
    def rule(self) -> ArmRule:
        """It, in the configuration's words."""
        return ArmRule("all", ArmAction.ENABLE, self.idle, self.interval, self.probes)

    @property
    def path(self) -> Path:
        """The only one."""
        return Path("default", self.timeout, CONFIGURED)


class Line(NamedTuple):
    """What stands in a socket once a scan has armed it: None where it is left as it was.

    The program in the kernel does the same, or leaves the socket to the scan where `at_connect` is false.
    """

    why: str
    rule: Rule
    case: Case
    after: Times | None
    at_connect: bool = True

    @property
    def scanned(self) -> SocketKeepalive:
        """What stands there after a scan."""
        return self.case.stands if self.after is None else SocketKeepalive(True, Keepalive(*self.after))

    @property
    def connected(self) -> SocketKeepalive:
        """What stands there after connect."""
        return self.scanned if self.at_connect else self.case.stands


def by_scan(case: Case, rule: Rule) -> SocketKeepalive:
    """Return what a scan leaves in the socket."""
    wish = Wish(rule.rule, times(rule.rule, rule.timeout))
    decided = decide_arming(case.found, Wanted(wish, rule.timeout, Verdict.BARE))
    return decided.after if isinstance(decided, Armed) else case.stands


OURS = Rule(180, 20, 31, 240.0)
AUTO = Rule(None, 20, 31, 240.0)
SHORT = Rule(None, 75, 3, 20.0)
QUICK = Rule(None, 1, 31, 180.0)
MANY = Rule(5, 5, 127, 9.5)
LATE = Rule(180, 20, 31, 90.0)

TABLE = (
    Line("nothing was chosen", OURS, Case(), (180, 20, 31)),
    Line("nothing was chosen, but switched on", OURS, Case(on=True), (180, 20, 31)),
    Line("what is set is the socket's own, also where it equals the sysctls", OURS, Case((180, 20, 31)), (180, 20, 31)),
    Line("an outage of 600 s, as the rule has it, is survived", OURS, Case((60, 5, 3)), (60, 5, 121)),
    Line("an outage of 600 s is survived still", OURS, Case(chosen=(0, 0, 9)), (180, 20, 31)),
    Line("a low number of probes that was chosen is raised", OURS, Case(chosen=(900, 0, 3)), (180, 20, 31)),
    Line("more probes would notice a dead peer later", OURS, Case(chosen=(250, 15, 10), on=True), (180, 15, 12)),
    Line("an interval that was chosen stays where it is shorter", OURS, Case(chosen=(0, 5, 0)), (180, 5, 121)),
    Line("the same, and on", OURS, Case(chosen=(0, 5, 0), on=True), (180, 5, 31)),
    Line("off, and too short for the rule's outage: the interval grows", OURS, Case(chosen=(300, 1, 1)), (180, 5, 121)),
    Line("a long interval needs more probes", OURS, Case(chosen=(0, 300, 0)), (180, 20, 121)),
    Line("too many probes: the interval grows", OURS, Case(chosen=(0, 3600, 9)), (106, 106, 127)),
    Line("no more probes than the longer interval needs", QUICK, Case(chosen=(196, 18, 9), on=True), (157, 2, 73)),
    Line("the longest idle time that fits", AUTO, Case(), (192, 20, 31)),
    Line("as short as a path", SHORT, Case(), (12, 5, 121)),
    Line("as many probes as a socket takes", MANY, Case(), (5, 5, 127)),
    Line("a user timeout that ends it sooner", OURS, Case(user_timeout=1500), None, at_connect=False),
    Line("a user timeout that does not", OURS, Case(user_timeout=900_000), (180, 20, 31), at_connect=False),
    Line("times that would come too late", LATE, Case(), None),
    Line("what was chosen is safe, and off", OURS, Case(chosen=(60, 0, 0)), (60, 20, 31), at_connect=False),
    Line("what was chosen is safe, and on", OURS, Case(chosen=(200, 15, 10), on=True), None),
    Line(
        "sysctls that are safe, and on",
        OURS,
        Case((180, 20, 31), on=True, later=(180, 20, 31)),
        (180, 20, 31),
        at_connect=False,
    ),
    Line("sysctls that are no times", OURS, Case((0, 0, 0), later=(0, 0, 0)), (180, 20, 31), at_connect=False),
)
