"""What is said of network namespaces that are not watched."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.log.entries.entry import WARNING, Entry, Value
from keepaliveD.model.sockets import Unseen


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
    if unseen.hidden:
        yield _entry(
            "network namespaces may be missing: those of other users' processes cannot be seen; "
            "seeing them requires CAP_SYS_PTRACE",
            {},
        )


def _entry(message: str, fields: dict[str, Value]) -> Entry:
    return Entry("unseen", WARNING, message, fields)
