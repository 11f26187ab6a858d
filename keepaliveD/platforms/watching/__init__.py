"""The connections of systems without netlink, by what their own programs list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from keepaliveD.platforms.base import WatcherFactory
from keepaliveD.platforms.watching.freebsd import FreeBSD
from keepaliveD.platforms.watching.seen import Listing, ListingWatcher

LISTINGS: Mapping[str, Callable[[Path], Listing]] = {
    "freebsd": FreeBSD,
}


def listing(system: str, root: Path = Path("/")) -> Listing:
    """What that system's programs tell; they are looked for below `root`."""
    return LISTINGS[system](root)


def watching(listing: Listing) -> WatcherFactory:
    """The factory of the watcher that takes snapshots of it; these systems have no network namespaces."""

    def watcher(*, all_namespaces: bool, with_interfaces: bool) -> ListingWatcher:
        del all_namespaces
        return ListingWatcher(listing, with_interfaces=with_interfaces)

    return watcher
