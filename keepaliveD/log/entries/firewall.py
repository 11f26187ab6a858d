"""Log entries about this host's own firewall: it is nearly full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keepaliveD.log.entries.entry import WARNING, Entry, Value
from keepaliveD.model.firewall import Tracked

MOST_NAMED = 3  # anybody can make as many of these as he likes
LIMIT = "net.netfilter.nf_conntrack_max"


def of_nearly_full(tracked: Sequence[Tracked]) -> Iterator[Entry]:
    """Yield an entry for each network namespace, the last one of which says how many more there are."""
    more = len(tracked[MOST_NAMED:])
    for number, each in enumerate(tracked[:MOST_NAMED], start=1):
        yield _entry(each, f"; {more} more are" if more and number == MOST_NAMED else "")


def _entry(each: Tracked, more: str) -> Entry:
    where = f" in network namespace {each.netns}" if each.netns else ""
    fields: dict[str, Value] = {"KEEPALIVE_COUNT": each.connections, "KEEPALIVE_LIMIT": each.limit}
    return Entry(
        "nearly-full",
        WARNING,
        f"this host's own firewall{where} is nearly full: it tracks {each.connections} of at most {each.limit} "
        f"connections; when it is full, new connections are dropped; raise {LIMIT}{more}",
        fields | ({"KEEPALIVE_NETNS": each.netns} if each.netns else {}),
    )
