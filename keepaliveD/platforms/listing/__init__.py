"""The connections of systems without netlink, by what their own programs list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from keepaliveD.model.errors import Unsupported
from keepaliveD.model.rules import IPNetwork
from keepaliveD.platforms.base import WatcherFactory
from keepaliveD.platforms.freebsd.listing import FreeBSD
from keepaliveD.platforms.listing.by_psutil import KnownToPsutil
from keepaliveD.platforms.listing.rows import Listing, ListingWatcher
from keepaliveD.platforms.macos.listing import MacOS
from keepaliveD.platforms.solaris.listing import sunos

LISTINGS: Mapping[str, Callable[[Path], Listing]] = {
    "freebsd": FreeBSD,
    "macos": MacOS,
    "solaris10": sunos,
    "solaris11": sunos,
    "illumos": sunos,
    "openbsd": lambda _: KnownToPsutil(),
    "netbsd": lambda _: KnownToPsutil(),
    "aix": lambda _: KnownToPsutil(),
}


def listing(system: str, root: Path = Path("/")) -> Listing:
    """What that system's programs tell; they are looked for below `root`. Raises Unsupported."""
    if system not in LISTINGS:
        raise Unsupported(
            f"{system}: its connections cannot be watched: no program is known here that lists them in a form to rely "
            f"on, and psutil does not know {system}; settings can be applied all the same"
        )
    return LISTINGS[system](root)


def watching(listing: Listing) -> WatcherFactory:
    """The factory of the watcher that takes snapshots of it; these systems have no network namespaces."""

    def watcher(
        *, engine: str, all_namespaces: bool, with_interfaces: bool, ignore: Sequence[IPNetwork]
    ) -> ListingWatcher:
        del all_namespaces, ignore
        if engine != "auto":
            raise Unsupported(f'watch.engine = "{engine}": that is Linux\'s; write "auto"')
        return ListingWatcher(listing, with_interfaces=with_interfaces)

    return watcher
