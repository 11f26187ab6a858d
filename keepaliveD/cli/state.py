"""The records in the state directory, for commands."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import orders, process
from keepaliveD.model.errors import NoInput, Refusal
from keepaliveD.model.text import printable
from keepaliveD.places import DEFAULT_FILE
from keepaliveD.platforms.base import Platform
from keepaliveD.records.directory import check_link, reporting
from keepaliveD.records.settings import SettingsRecord


def unrecorded(platform: Platform, daemon: int, root: Path) -> str:
    """Have a daemon record what it has armed at connect; return why that may be missing here, or "".

    Call it after a scan: whatever is armed in the sockets that were found is on record then. `daemon` is 0 if none
    runs. Where its records can be read here, it need not be asked.
    """
    if not daemon or platform.at_connect.shared():
        return ""
    why = orders.have_recorded(daemon, root)
    return why if why and _may_arm_at_connect(daemon, root) else ""


def _may_arm_at_connect(daemon: int, root: Path) -> bool:
    """Return whether a daemon may arm at connect, as it is configured; True where that cannot be told."""
    from keepaliveD.config import load  # with pydantic
    from keepaliveD.policy.arming.connect import plan

    file = process.configuration(daemon, root)
    try:
        config = load(None if file == DEFAULT_FILE else file)
    except Refusal:
        return True
    follows = plan(config.arm, config.ignore, config.paths).openings
    return bool(follows) and config.all_namespaces and config.engine != "netlink"


def missing(directory: Path) -> str:
    """Return why there is no record here, or nothing if there may be one: for a command that only undoes.

    Raises NoInput where a directory that is missing was asked for by name; NotPermitted, StateError where that
    cannot be found out.
    """
    with reporting(directory, "read"):
        try:
            directory.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            if directory != arguments.state_directory():
                check_link(directory)
                raise NoInput(f"{directory}: does not exist; name the --state-dir of the daemon") from error
            return f"{directory} does not exist"
    return ""


def nothing(to: str, command: str, record: SettingsRecord, no_record: str) -> str:
    """Return that there is nothing `to` do, with the records that only another network namespace can restore.

    `no_record` is what missing() has returned. Raises NotPermitted, StateError.
    """
    others = [] if no_record else record.of_other_namespaces()
    if not others:
        return ": ".join(filter(None, (f"nothing to {to}", no_record)))
    files = ", ".join(map(printable, others))
    return (
        f"nothing to {to} in this network namespace; run keepalivectl {command} in the one of {files}, "
        "or remove it if that namespace no longer exists"
    )
