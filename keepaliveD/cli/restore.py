"""keepalivectl restore: put back the system settings that a killed daemon left behind."""

from __future__ import annotations

import argparse
from pathlib import Path

from keepaliveD.cli import arguments, state
from keepaliveD.cli.fitting import say
from keepaliveD.cli.running import elsewhere
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.log import entries
from keepaliveD.model.actions import Outcome
from keepaliveD.model.errors import RecordDamaged
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect


def add_restore(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl restore`."""
    arguments.add_state(command)
    arguments.add_platform(command)
    command.set_defaults(command=restore_settings, order=True)


def restore_settings(options: argparse.Namespace, root: Path) -> None:
    """Restore what was found, if ours still stands. Raises RecordDamaged, NoInput, having done nothing."""
    no_record = state.missing(options.state_dir)
    platform = detect(options.platform, root)
    record = state.records(options, platform).settings
    outcomes: list[Outcome] = []
    others: list[str] = []
    if record.can_exist():
        with record.locked():
            if damaged := record.damaged():
                raise RecordDamaged(damaged[0])
            outcomes = SystemSettings(platform.tuner, record).restore()
            others = record.of_other_namespaces()
    for entry in (entry for outcome in outcomes if not outcome.refused for entry in entries.of(outcome)):
        say(entry.message)
    for refused in (outcome.refused for outcome in outcomes if outcome.refused):
        raise refused
    if not outcomes:
        if refusal := elsewhere(options.state_dir, root):
            raise refusal
        say(_nothing_to_restore(others, no_record))


def _nothing_to_restore(others: list[str], no_record: str) -> str:
    """Return the message, with the records that only another network namespace can restore."""
    if not others:
        return ": ".join(filter(None, ("nothing to restore", no_record)))
    files = ", ".join(map(printable, others))
    return f"nothing to restore in this network namespace; run keepalivectl restore in the one of {files}"
