"""Log entries about network namespaces that are not watched, and about what did not answer."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.entry import WARNING, Entry, Value
from keepaliveD.log.words import THIS_NAMESPACE, own_namespace
from keepaliveD.model import duration, requirements
from keepaliveD.model.sockets import OWN, Unwatched
from keepaliveD.platforms.touching import Kind, Touched

MOST_NAMED = 3  # anybody can make as many of these as he likes


def of_unwatched(unwatched: Unwatched, own: int) -> Iterator[Entry]:
    """Return an entry for each reason; `own` is the network namespace of who has scanned."""
    if unwatched.forbidden:
        yield _entry(
            f"{_not_watched(unwatched.forbidden)}: entering them requires {requirements.NAMESPACES.named}",
            {"KEEPALIVE_NAMESPACES": unwatched.forbidden},
        )
    if unwatched.surplus:
        yield _entry(
            f"{_not_watched(unwatched.surplus)}: the limit of open files is reached; "
            "raise it (LimitNOFILE=, ulimit -n)",
            {"KEEPALIVE_NAMESPACES": unwatched.surplus},
        )
    if own in unwatched.silent:
        yield _entry(
            f"{THIS_NAMESPACE} is not watched: no answer; its connections are not seen; "
            "tries again after growing pauses",
            {"KEEPALIVE_NETNS": own},
        )
    if others := len(set(unwatched.silent) - {own}):
        yield _entry(
            f"{_not_watched(others)}: no answer; tries again after growing pauses",
            {"KEEPALIVE_NAMESPACES": others},
        )
    if unwatched.hidden:
        yield _entry(
            "network namespaces of other users' processes may not be watched: finding them requires "
            f"{requirements.FIND_NAMESPACES.named}",
            {},
        )
    for netns in unwatched.crowded[:MOST_NAMED]:
        yield _entry(
            f"{_named(netns, own)} is not watched completely: too many sockets, which may be another "
            "namespace's or user's, share a bucket of the kernel's table of TCP sockets; "
            'watch.engine = "netlink" reads them, slowly',
            {"KEEPALIVE_NETNS": netns},
        )
    if more := len(unwatched.crowded[MOST_NAMED:]):
        yield _entry(
            f"{more} more network namespaces are not watched completely, for the same reason",
            {"KEEPALIVE_NAMESPACES": more},
        )
    for netns in unwatched.incomplete[:MOST_NAMED]:
        yield _entry(
            f"{_named(netns, own)} is not watched completely: "
            "the kernel told of fewer sockets than it counts, or refused; "
            'tries again at each scan; watch.engine = "bpf" reads them in another way',
            {} if netns == OWN else {"KEEPALIVE_NETNS": netns},
        )
    if more := len(unwatched.incomplete[MOST_NAMED:]):
        yield _entry(
            f"{more} more network namespaces are not watched completely, for the same reason",
            {"KEEPALIVE_NAMESPACES": more},
        )


def _named(netns: int, own: int) -> str:
    return THIS_NAMESPACE if netns in (OWN, own) else f"network namespace {netns}"


def _not_watched(count: int) -> str:
    return "1 network namespace is not watched" if count == 1 else f"{count} network namespaces are not watched"


HUNG = {
    Kind.NOTHING: ("the kernel", ""),
    Kind.NAMESPACE: ("network namespace", "KEEPALIVE_NETNS"),
    Kind.PROCESS: ("process", "KEEPALIVE_PID"),
    Kind.SOCKET: ("the socket with cookie", "KEEPALIVE_COOKIE"),
    Kind.LOCKS: ("a locked socket of network namespace", "KEEPALIVE_NETNS"),
}


def of_hang(touched: Touched, pause: float) -> Entry:
    """Return what is said of a worker that did not go on, and of what it touched."""
    what, name = HUNG[touched.kind]
    if not name:
        return Entry("hung", WARNING, f"no answer from {what}; started another worker process")
    whom = f"{what} {touched.number}"
    if touched.kind in (Kind.NAMESPACE, Kind.LOCKS) and touched.number == own_namespace():
        whom = f"{what.replace('network namespace', THIS_NAMESPACE)} ({touched.number})"
    done = "others there are armed one by one" if touched.kind is Kind.LOCKS else "left out"
    message = f"no answer from {whom}: {done} for {duration.span(pause)}, then tried again"
    return Entry("hung", WARNING, message, {name: touched.number})


def _entry(message: str, fields: dict[str, Value]) -> Entry:
    return Entry("unwatched", WARNING, message, fields)
