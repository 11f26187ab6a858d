"""A system whose settings a command sets, and whose connections a program lists."""

from __future__ import annotations

from keepaliveD.model.errors import Unsupported
from keepaliveD.model.rules import Watching
from keepaliveD.platforms.base import Platform, Session
from keepaliveD.platforms.commands.settings import Settings
from keepaliveD.platforms.listing.rows import Listing, ListingWatcher
from keepaliveD.platforms.unsupported import NoArmer, NoAtConnect, NoOwners, open_blind


def platform(name: str, settings: Settings, listing: Listing) -> Platform:
    """Return the platform of these; its notes say what each of them cannot tell."""

    def open_session(watching: Watching) -> Session:
        """Read this listing; such a system has no network namespaces."""
        if watching.engine != "auto":
            raise Unsupported(f'watch.engine = "{watching.engine}" requires Linux; write "auto"')
        watcher = ListingWatcher(listing, with_interfaces=watching.with_interfaces)
        return Session(watcher, NoOwners(), NoArmer())

    return Platform(name, settings, NoAtConnect(), open_session, (*settings.notes, *listing.limits))


def unwatched(name: str, settings: Settings) -> Platform:
    """Return the platform of a system whose connections nobody lists."""
    note = (
        "connections cannot be watched: no program of this system lists them reliably, and psutil does "
        "not support it; the system's settings are still applied"
    )
    return Platform(name, settings, NoAtConnect(), open_blind, (*settings.notes, note))
