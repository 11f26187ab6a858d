"""keepalivectl restore: put back the system settings that a killed daemon left behind."""

from __future__ import annotations

import argparse
from pathlib import Path

from keepaliveD.cli import arguments, state
from keepaliveD.cli.arming.results import Results
from keepaliveD.cli.asking.its_files import elsewhere
from keepaliveD.cli.printing.fitting import say
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import Outcome
from keepaliveD.model.errors import RecordDamaged
from keepaliveD.platforms import detect
from keepaliveD.records.both import records_in


def add_restore(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl restore`."""
    arguments.add_state(command)
    arguments.add_platform(command)
    command.set_defaults(command=restore_settings, order=True)


def restore_settings(options: argparse.Namespace, root: Path) -> None:
    """Restore what was found, if ours still stands, and log it. Raises RecordDamaged, NoInput, having done nothing."""
    no_record = state.missing(options.state_dir)
    platform = detect(options.platform, root)
    record = records_in(options.state_dir, platform.tuner).settings
    outcomes: list[Outcome] = []
    if record.can_exist():
        with record.locked():
            if damaged := record.damaged():
                raise RecordDamaged(damaged[0])
            outcomes = SystemSettings(platform.tuner, record).restore()
    with Results() as report:
        for outcome in sorted(outcomes, key=lambda outcome: outcome.refused is not None):
            report.add(outcome)
    if not outcomes:
        if refusal := elsewhere(options.state_dir, root):
            raise refusal
        say(state.nothing("restore", "restore", record, no_record))
