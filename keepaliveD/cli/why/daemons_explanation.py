"""What a running daemon explains of connections: it has watched for longer, and has their sockets read."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import ipaddress
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keepaliveD.cli.asking import running
from keepaliveD.cli.asking.asking import ask, control_socket, every, listens
from keepaliveD.cli.targets import named
from keepaliveD.cli.why.host import Host
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted
from keepaliveD.model.explained import Explained, HelpfulRule
from keepaliveD.model.keepalive import FIELDS, NONE, Found, Keepalive, Own, SocketKeepalive
from keepaliveD.model.plain import restored
from keepaliveD.model.results import Armed, ArmingResult, Mark
from keepaliveD.model.rules import ArmAction, ArmRule
from keepaliveD.places import INTERFACE
from keepaliveD.platforms import processes

PATIENCE = 10.0  # seconds: it may be scanning
MOMENT = 2.0  # seconds for a look into /proc, beside those for processes that hang in execve(2)
MOST_INODES = 1024  # that can be asked about
ANSWERED = f"{INTERFACE}."  # its errors begin so
UNKNOWN = f"{ANSWERED}NoSuchConnection"
NO_SOCKET = 0  # no socket has this cookie
SOCKET = "socket:["  # proc(5)
ROLES = ("_time", "_intvl", "_probes")  # in the order of Keepalive: how Linux ends the names of its settings


class Answered(NamedTuple):
    """What the daemon says: the most urgent connections, how many others there are, its process, and the host.

    `plain` is its very answer about each connection. `age` is how many seconds ago its last scan ended, NaN before the
    first. `misses`: it does not see all sockets. `why` is why it was not asked about the connections, where it was not.
    So many processes that the word names have not answered: `unanswered`.
    """

    explained: Sequence[Explained]
    more: int
    daemon: int
    host: Host
    plain: Sequence[Mapping[str, Any]]
    age: float
    misses: bool = False
    why: str = ""
    unanswered: int = 0


class _TooMany(Exception):
    """The daemon cannot be asked about so many sockets at once."""


def ask_for(options: argparse.Namespace, root: Path) -> Answered | None:
    """Ask the daemon for the connections that a word names; None where it cannot be asked, or what to ask is not known.

    Nothing is explained where it knows none of them.
    """
    is_asked, why = False, ""
    with contextlib.suppress(NoInput, NotPermitted, KernelError, KeyError, TypeError, ValueError):
        control = control_socket(root)
        pid = running.running(options.state_dir, root)
        if pid and listens(control) != pid:
            return None
        asked_at, status = time.monotonic(), ask(control, "Status")  # first: the figures are as old as this, or newer
        try:
            for wanted, unanswered in _wanted(options.target, root, control):
                if not any(wanted.values()):
                    continue
                try:
                    answer = ask(control, "Explain", wanted, PATIENCE)
                except KernelError as error:
                    if ANSWERED not in str(error):
                        return None  # the next meaning of the word would be taken for what it knows of this one
                    is_asked = is_asked or UNKNOWN in str(error)
                    continue  # with the next meaning
                since = time.monotonic() - asked_at
                return _answered(answer, status, since)._replace(unanswered=unanswered)
        except _TooMany as error:
            is_asked, why = True, str(error)
        if is_asked:
            return _answered({"explained": [], "more": 0}, status, time.monotonic() - asked_at)._replace(why=why)
    return None


def _answered(answer: Mapping[str, Any], status: Mapping[str, Any], since: float) -> Answered:
    """Return what the daemon says, `since` so many seconds after it said its status.

    Raises KeyError, TypeError, ValueError where it is of another version.
    """
    explained = [_explained(one) for one in answer["explained"]]
    age = status["scan"]["ago"] + since if status.get("scan") else math.nan
    unwatched = status.get("unwatched", {})
    misses = bool(unwatched.get("crowded") or unwatched.get("incomplete"))
    return Answered(explained, answer["more"], status["pid"], _host(status), answer["explained"], age, misses)


def _wanted(target: str, root: Path, control: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield what the word may mean, the likeliest first, as the daemon is asked for it.

    With each comes how many processes of that name do not answer. Raises Misuse, NoInput, _TooMany.
    """
    if cookie := named.COOKIE.fullmatch(target):
        yield {"cookies": [int(cookie[1], 16)]}, 0
    elif target.isdecimal():
        yield _sockets(root, [target])
        if len(target) <= named.LONGEST_COOKIE and int(target) <= named.MAX_COOKIE:
            yield {"cookies": [int(target)]}, 0
    elif host := named.host(target):
        yield {"cookies": _with_end(host, control)}, 0
    elif named.PORT.search(target):
        addresses, port = named.endpoint(target)
        yield {"ends": [{"address": str(ipaddress.IPv6Address(each)), "port": port} for each in addresses]}, 0
    elif pid := named.pid_of(target, root / "proc"):
        yield _sockets(root, [pid])
    elif target:
        yield {"units": [target]}, 0
        yield _sockets(root, list(_processes(root, target)))


def _with_end(host: str, control: Path) -> list[int]:
    """Return the cookies of the connections that this host is an end of, that of no socket where there are none.

    Raises _TooMany, and as `every` does.
    """
    address = str(ipaddress.ip_network(host.partition("%")[0]))
    answers = every(control, "ListConnections", {"addresses": [address]})
    cookies = [one["cookie"] for answer in answers for one in answer["connections"]]
    return _few(cookies) or [NO_SOCKET]


def _few(sockets: list[int]) -> list[int]:
    """Return the same sockets. Raises _TooMany."""
    if len(sockets) > MOST_INODES:
        raise _TooMany(f"the daemon explains {MOST_INODES} sockets at most at once, and these are {len(sockets)}")
    return sockets


def _processes(root: Path, pattern: str) -> Iterator[str]:
    """Yield the ids of the processes with this name."""
    for file in (root / "proc").glob("[0-9]*/comm"):
        if fnmatch.fnmatchcase(named.process_name(file), pattern):
            yield file.parent.name


def _sockets(root: Path, pids: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Return the sockets of these processes, as the daemon is asked for them, and how many processes do not answer.

    Raises _TooMany, and NoInput: none is known.
    """
    until = time.monotonic() + MOMENT
    try:
        answers = processes.ask(map(int, pids), lambda pid: _held(root, pid, until), processes.PATIENCE)
    except OSError as error:
        raise NoInput("the sockets of the process cannot be read") from error
    known = [its for its in answers.values() if its is not None]
    inodes = [inode for its in known for inode in its]
    if len(known) < len(pids) and not inodes:
        raise NoInput("the processes do not answer")
    return {"inodes": _few(inodes)}, len(pids) - len(known)


def _held(root: Path, pid: int, until: float) -> list[int] | None:
    """Return the inodes of the sockets of a process, as far as they can be seen; None where it is too late.

    It may have half a million descriptors: to list them takes time as well.
    """
    inodes: list[int] = []
    with contextlib.suppress(OSError), os.scandir(root / f"proc/{pid}/fd") as entries:
        for entry in entries:
            if time.monotonic() > until:
                return None
            processes.go_on()
            with contextlib.suppress(OSError):
                link = os.readlink(entry.path)
                if link.startswith(SOCKET):
                    inodes.append(int(link[len(SOCKET) : -1]))
    return inodes


# what it answers, as the page takes it


def _explained(one: Mapping[str, Any]) -> Explained:
    """Return what the daemon explains. Raises KeyError, TypeError, ValueError where it is of another version."""
    found, stands = None, _keepalive(one["stands"])
    if stands:
        system = Keepalive(**one["system"]) if one["system"] else None
        found = Found(stands, _own(one["inherited"]), system, round(1000 * (one["user_timeout"] or 0.0)))
    return Explained(
        connection=restored(one["connection"]),
        watched=True,
        found=found,
        hindrance=HINDRANCES.get(one["unread"]),
        entry=Mark.LEFT_ALONE if one["left_alone"] else _armed(one["recorded"]),
        rule=ArmRule(one["rule"], ArmAction(one["action"]), None, 1, 1),
        decision=_decision(one, stands),
        remedy=_remedy(one, stands),
        hopeless=ArmingResult(one["hopeless"]) if one["hopeless"] else None,
        times=Keepalive(**one["times"]) if one["times"] else None,
        left_until_reload=one["left_until_reload"],
    )


OWN = dict(zip(Keepalive._fields, FIELDS, strict=True))
HINDRANCES = {result.value: result for result in ArmingResult}


def _keepalive(one: Mapping[str, Any] | None) -> SocketKeepalive | None:
    return SocketKeepalive(one["on"], Keepalive(*(one[name] for name in Keepalive._fields))) if one else None


def _own(names: Collection[str] | None) -> Own:
    return Own.UNTOLD if names is None else sum((own for name, own in OWN.items() if name in names), NONE)


def _armed(one: Mapping[str, Any] | None) -> Armed | None:
    before, after = (_keepalive(one[name]) for name in ("before", "after")) if one else (None, None)
    return Armed(before, after, _own(one["inherited"])) if one and before and after else None


def _decision(one: Mapping[str, Any], stands: SocketKeepalive | None) -> Armed | ArmingResult | None:
    after = _keepalive(one["sets"])
    if after and stands:
        return Armed(stands, after)
    return ArmingResult(one["decision"]) if one["decision"] else None


def _remedy(one: Mapping[str, Any], stands: SocketKeepalive | None) -> HelpfulRule | None:
    """Return the rule that would help; what it would set is not told, and nobody asks for it."""
    settings = tuple((key["key"], key["value"]) for key in one["remedy"])
    return HelpfulRule(settings, Armed(stands, stands)) if settings and stands else None


def _host(status: Mapping[str, Any]) -> Host:
    """Return what is known of the host: which settings the daemon has replaced, if any."""
    interval = status["scan"]["interval"] if status.get("scan") else 0.0
    settings = [one for role in ROLES for one in status["settings"] if one["name"].endswith(role)]
    if len(settings) != len(ROLES) or all(one["before"] is None for one in settings):
        return Host(daemon=True, interval=interval)
    before = (one["stands"] if one["before"] is None else one["before"] for one in settings)
    return Host(True, status["netns"], Keepalive(*before), interval=interval)
