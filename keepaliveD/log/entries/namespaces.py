"""What is said of network namespaces that are not watched, and of what did not answer."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.entry import WARNING, Entry, Value
from keepaliveD.model import duration
from keepaliveD.model.sockets import Unseen
from keepaliveD.platforms.touching import Kind, Touched


def of_unseen(unseen: Unseen) -> Iterator[Entry]:
    """Return an entry for each reason."""
    if unseen.forbidden:
        yield _entry(
            f"{unseen.forbidden} network namespaces are not watched: "
            "entering them requires CAP_SYS_ADMIN and CAP_SYS_PTRACE",
            {"KEEPALIVE_NAMESPACES": unseen.forbidden},
        )
    if unseen.surplus:
        yield _entry(
            f"{unseen.surplus} network namespaces are not watched: "
            "the limit of open files allows no more; raise it (LimitNOFILE=)",
            {"KEEPALIVE_NAMESPACES": unseen.surplus},
        )
    if unseen.silent:
        yield _entry(
            f"{unseen.silent} network namespaces are not watched: they did not answer; tries again with growing pauses",
            {"KEEPALIVE_NAMESPACES": unseen.silent},
        )
    if unseen.hidden:
        yield _entry(
            "network namespaces may be missing: those of other users' processes cannot be seen; "
            "seeing them requires CAP_SYS_PTRACE",
            {},
        )


HUNG = {
    Kind.NOTHING: ("the kernel", ""),
    Kind.NAMESPACE: ("network namespace", "KEEPALIVE_NETNS"),
    Kind.PROCESS: ("process", "KEEPALIVE_PID"),
    Kind.SOCKET: ("the socket with cookie", "KEEPALIVE_COOKIE"),
}


def of_hang(touched: Touched, pause: float) -> Entry:
    """Return what is said of a worker that did not go on, and of what it touched."""
    what, name = HUNG[touched.kind]
    if not name:
        return Entry("hung", WARNING, f"no answer from {what}; started another worker process")
    message = f"no answer from {what} {touched.number}: left out for {duration.span(pause)}, then tried again"
    return Entry("hung", WARNING, message, {name: touched.number})


def _entry(message: str, fields: dict[str, Value]) -> Entry:
    return Entry("unseen", WARNING, message, fields)
