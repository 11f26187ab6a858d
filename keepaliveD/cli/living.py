"""One run of the daemon: apply, watch, warn, and restore at the end. Loaded when a command line asks for it."""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from keepaliveD.daemon.control import interface
from keepaliveD.daemon.control.control import Control
from keepaliveD.daemon.daemon import Daemon, restoring
from keepaliveD.daemon.deaths import DeathSource
from keepaliveD.daemon.neighbour import showing
from keepaliveD.daemon.process import Process, raise_descriptor_limit
from keepaliveD.daemon.sources import EventSource
from keepaliveD.daemon.view import View
from keepaliveD.log.entries import WARNING, Entry
from keepaliveD.log.journal import JournaldLog, Log, never_waiting, open_log
from keepaliveD.log.kept import KeepingLog
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import Refusal
from keepaliveD.places import CONTROL
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.clock import now
from keepaliveD.records.both import Records, records_in
from keepaliveD.records.history import History

PATIENCE = 0.3  # seconds for which another process may have the arming record locked: nothing else happens meanwhile


def live(options: argparse.Namespace, root: Path) -> None:
    """Run the daemon once; the system's files and commands are looked for below `root`."""
    os.close(os.open(os.devnull, os.O_RDWR))  # without it no worker process can begin
    raise_descriptor_limit()
    platform = detect(options.platform, root)
    platform.confine()  # before the log's thread starts
    with never_waiting(_log(options)) as log:
        if options.dry_run:
            return _run(options, platform, None, log)
        records = records_in(options.state_dir, platform.tuner, PATIENCE)
        with records.settings.locked():
            return _run(options, platform, records, log)


def _log(options: argparse.Namespace) -> Log:
    """Open the log. Where no journal keeps it, a file of our own keeps the history of ended connections."""
    log = open_log(options.log_format, sys.stderr)
    if options.dry_run or isinstance(log, JournaldLog):
        return log
    return KeepingLog(log, History(options.state_dir), time.time)


def _run(options: argparse.Namespace, platform: Platform, records: Records | None, log: Log) -> None:
    with contextlib.ExitStack() as stack:
        control = None if options.once or records is None else _control(lambda: daemon.view, log)
        if control:
            stack.callback(control.close)
            log = _monitored(log, control)
        deaths = stack.enter_context(contextlib.closing(DeathSource(platform.watch_deaths, now)))
        sources: list[EventSource] = [deaths, control] if control else [deaths]
        process = stack.enter_context(Process(options.config, platform.open, log, sources))
        config = None
        try:
            with restoring(platform.tuner, records.settings if records else None, log):
                config = process.load_first()
                if records and config.apply and "netns" in platform.tuner.identity:
                    _warn_of_another(stack.enter_context(showing()), log)
                show = _show if options.once else None
                daemon = Daemon(config, platform, records, log, process, deaths=deaths, show=show, clients=control)
        except Refusal:
            if config is None and process.is_told_to_stop():
                return  # what an earlier daemon left is restored, and nothing else was changed
            raise
        daemon.run()


def _control(host: Callable[[], View], log: Log) -> Control | None:
    """Open the control socket in the directory that the service manager has made for it, if it has."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if not directory or not hasattr(selectors, "EpollSelector"):
        return None
    try:
        return Control(Path(directory) / CONTROL, interface.service(host), now)
    except Refusal as refusal:
        log(Entry("doubtful", WARNING, f"nobody can ask this daemon: {refusal}"))
    return None


def _monitored(log: Log, control: Control) -> Log:
    """Return a log that also goes to whoever monitors."""

    def both(entry: Entry) -> None:
        log(entry)
        control.publish(interface.MONITOR, interface.entry(entry))

    return both


def _warn_of_another(daemon: str, log: Log) -> None:
    if daemon:
        message = (
            f"another tcp-keepalived ({daemon}) with another --state-dir sets the keepalive of this network namespace; "
            "settings may be left behind when both have stopped: stop one of them"
        )
        log(Entry("doubtful", WARNING, message))


def _show(at_risk: Sequence[Connection]) -> None:
    from keepaliveD.cli.printing import table  # for those who look once

    print(table.for_people(at_risk))
