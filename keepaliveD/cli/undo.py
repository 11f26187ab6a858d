"""keepalivectl undo: restore what the daemon or a person has changed, all of it or a part."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from keepaliveD.cli import arguments, state
from keepaliveD.cli.arming.disarm import disarm
from keepaliveD.cli.arming.results import Results
from keepaliveD.cli.asking import its_files, orders, process, running
from keepaliveD.cli.asking.asking import ask
from keepaliveD.cli.printing.fitting import continued, say, terminal_width
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.targets import named
from keepaliveD.cli.targets.nearest import Besides
from keepaliveD.config import Config, load
from keepaliveD.config.files import read
from keepaliveD.daemon.settings import SystemSettings
from keepaliveD.model.actions import Outcome
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.errors import Busy, Exit, KernelError, RecordDamaged, Refusal
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, OnDrift
from keepaliveD.model.sockets import SocketTable
from keepaliveD.model.text import printable
from keepaliveD.places import DEFAULT_FILE
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.policy.arming.arming import may_match_again
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.judge import judge
from keepaliveD.records.both import records_in
from keepaliveD.records.settings import SettingsRecord

ALL = "all"
FEW = 8  # commands that are shown
ROLES = ("keepalive.idle", "keepalive.interval", "keepalive.probes")  # what configures them, in the order of Roles
UNITS = ("s", "s", "")


def add_undo(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl undo`."""
    command.add_argument(
        "target",
        metavar="TARGET",
        help="the word all, a setting of the system, a unit or a process by its name, a process id, an address or "
        "HOST:PORT of either end, or a cookie",
    )
    arguments.add_state(command)
    command.set_defaults(command=undo, order=True)


def undo(options: argparse.Namespace, root: Path) -> None:
    """Restore what was named, and say how to do it again. Raises Refusal."""
    no_record = state.missing(options.state_dir)
    platform = detect(root=root)
    setting = _setting(options.target, platform)
    if setting:
        if not _undo_settings(options, root, platform, {setting}):
            if refusal := its_files.elsewhere(options.state_dir, root):
                raise refusal
            say(f"nothing to undo: {setting} has the value that was found there")
        return
    if options.target == ALL:
        _undo_all(options, root, platform, no_record)
        return
    nothing = f"nothing to undo: no connection of {printable(options.target)} is armed"
    _undo_sockets(options, root, platform, nothing)


def _undo_all(options: argparse.Namespace, root: Path, platform: Platform, no_record: str) -> None:
    """Restore the settings, and disarm the sockets whether or not that was refused. Raises what was refused first."""
    nothing = ""
    refused: Refusal | None = None
    try:
        if not _undo_settings(options, root, platform, None):
            record = records_in(options.state_dir, platform.tuner).settings
            nothing = state.nothing("undo", "undo all", record, no_record)
    except Busy:
        raise  # it says what to do instead
    except Refusal as refusal:
        refused = refusal
    try:
        _undo_sockets(options, root, platform, nothing)
    except Refusal as refusal:
        if refused and not str(refusal).startswith(str(refused)):  # of a damaged record it says more
            refusal.status = refused.status
            refusal.args = (f"{refused}\n{refusal}",)
        raise
    if refused:
        raise refused


def _undo_sockets(options: argparse.Namespace, root: Path, platform: Platform, nothing: str) -> None:
    """Disarm what was named; say how to do it again, or `nothing`. Raises Refusal."""
    is_all = options.target == ALL
    disarmed = disarm(options, root, None if is_all else options.target, _settings_to_name(platform))
    daemon = running.running(options.state_dir, root)
    file = process.configuration(daemon, root) if daemon else None
    config = _config_if_any(file)
    for line in redo(disarmed.outcome, disarmed.armed, _cut(disarmed.table, config, platform)):
        print(continued(line, terminal_width()))
    for line in _arming_again(config, file, root, daemon, disarmed.outcome):
        say(line)
    if not is_all and not daemon and (pin := platform.at_connect.pinned()):
        say(f"{pin} still arms new connections without a daemon; keepalivectl undo all removes it")
    disarmed.finish(nothing)


# settings of the system


def _setting(target: str, platform: Platform) -> str:
    """Return the kernel's name of the setting that a word names: in full, its last part, or the configuration's key."""
    return _names(platform).get(target, "")


def _names(platform: Platform) -> dict[str, str]:
    """Return the kernel's names of the settings by all the names that they have."""
    names = {name: name for name in platform.tuner.ranges}
    names |= {name.rpartition(".")[2]: name for name in names}
    return names | dict(zip(ROLES, platform.tuner.roles, strict=True))


def _settings_to_name(platform: Platform) -> Besides:
    """Return what else than connections can be named."""
    settings = (f"{name} ({role})" for name, role in zip(platform.tuner.roles, ROLES, strict=True) if name)
    return Besides(f"; of settings, name one of {', '.join([ALL, *settings])}", [ALL, *_names(platform)])


def _undo_settings(options: argparse.Namespace, root: Path, platform: Platform, only: Collection[str] | None) -> bool:
    """Restore these settings, and say so; return whether there was anything to do. Raises Refusal."""
    record = records_in(options.state_dir, platform.tuner).settings
    if not record.can_exist():
        return False
    daemon = running.running(options.state_dir, root)
    if daemon and (control := orders.control_of(daemon, root)):
        return _have_them_restored(daemon, control, root, only)
    settings = SystemSettings(platform.tuner, record)
    if daemon:
        config = _configuration(daemon, root)
        _check_it_stays(config, daemon, root, _due(platform, record, only), platform)
        outcomes = settings.restore(only, beside_daemon=True)
        after = _what_the_daemon_does(config, process.how_to_reload(daemon, root))
    else:
        with record.locked():
            if damaged := record.damaged():
                raise RecordDamaged(damaged[0])
            outcomes = settings.restore(only)
        after = f"redo: {how_to_start(root)}, which sets it again"
    with Results() as report:
        for outcome in sorted(outcomes, key=lambda outcome: outcome.refused is not None):
            report.add(outcome)
    if outcomes:
        say(after)
    return bool(outcomes)


def _have_them_restored(daemon: int, control: Path, root: Path, only: Collection[str] | None) -> bool:
    """Have the daemon restore these settings and leave them so: it would take anybody else for someone who interferes.

    Raises NotPermitted, KernelError.
    """
    answer = ask(control, "Restore", {} if only is None else {"settings": sorted(only)}, orders.PATIENCE)
    for message in answer["messages"]:
        say(printable(message))
    if answer["restored"]:
        redo = process.how_to_reload(daemon, root)
        say(f"the daemon leaves what was restored until its next reload or start; redo: {redo}")
    if answer["refused"]:
        refusal = KernelError(answer["refused"])
        refusal.status = Exit(answer.get("status", refusal.status))
        raise refusal
    return bool(answer["messages"])


def _due(platform: Platform, record: SettingsRecord, only: Collection[str] | None) -> dict[str, int]:
    """Return the values to restore, by setting."""
    due = record.due_back(platform.tuner.read()).values
    return {name: value for name, value in due.items() if only is None or name in only}


def _configuration(daemon: int, root: Path) -> Config:
    """Return what a daemon reads. Raises ConfigError, NoInput."""
    file = process.configuration(daemon, root)
    return load(None if file == DEFAULT_FILE else file)


def _check_it_stays(config: Config, daemon: int, root: Path, due: Mapping[str, int], platform: Platform) -> None:
    """Raise Busy where a daemon would set again at its next scan what is to be restored."""
    if not due or not config.apply or config.on_drift is not OnDrift.REAPPLY:
        return
    written, alone = "keepalive.apply = false", "; keepalivectl disarm restores the sockets alone"
    if len(due) == 1 and (configured := _as_configured(due, platform)):
        written, alone = configured, ""
    raise Busy(
        f"{', '.join(due)}: not restored: tcp-keepalived (process {daemon}) would set it again at its next scan "
        f'(keepalive.on_drift = "reapply"), and cannot be asked not to; write {written} into its configuration and '
        f"type {process.how_to_reload(daemon, root)}, or type {process.how_to_stop(daemon, root)}{alone}"
    )


def _as_configured(due: Mapping[str, int], platform: Platform) -> str:
    """Return the line of configuration with which the daemon keeps this value itself."""
    for key, name, unit in zip(ROLES, platform.tuner.roles, UNITS, strict=True):
        if name in due:
            return f'{key} = "{due[name]}{unit}"' if unit else f"{key} = {due[name]}"
    return ""


def _what_the_daemon_does(config: Config, reload: str) -> str:
    if not config.apply:
        return "the daemon leaves the settings alone (keepalive.apply = false)"
    until = "until its next reload or start"
    drift = f'keepalive.on_drift = "{config.on_drift.value}"'
    return f"the daemon leaves what was restored {until} ({drift}); redo: {reload}"


# sockets


def redo(outcome: Outcome, armed: Mapping[int, Armed], cut: Collection[int] = ()) -> Iterator[str]:
    """Yield the commands that arm again what was disarmed, with the same times; not those with these cookies.

    To arm what the path has forgotten keeps it alive no more.
    """
    disarmed = [one for each in _disarmed(outcome) for one in each.connections]
    done = [one for one in disarmed if one.cookie not in cut]
    units = Counter((one.owner.unit, armed[one.cookie].after.times) for one in done)
    times = {one.cookie: armed[one.cookie].after.times for one in done}
    ends = Counter(end for end, _ in {(named.rarer_end(one), times[one.cookie]) for one in done})
    commands = dict.fromkeys(_command(one, times[one.cookie], units, ends) for one in done)
    for command in list(commands)[:FEW]:
        yield f"redo: {command}"
    if len(commands) > FEW:
        yield f"redo: and {len(commands) - FEW} others"
    if left := len(disarmed) - len(done):
        which = "connection that is cut: its path has" if left == 1 else "connections that are cut: their paths have"
        yield f"no redo for {left} {which} presumably forgotten {'it' if left == 1 else 'them'}"


def _cut(table: SocketTable, config: Config | None, platform: Platform) -> set[int]:
    """Return the cookies of connections that their paths have presumably forgotten, as far as that can be told here."""
    if config is None or config.selects_by_interface:  # interfaces were not read
        return set()
    judgement = judge(table, nothing_known(), config.within(platform.cloud()).paths, config.ignore)
    cut = judgement.forecast.verdict == Verdict.CUT.value
    return set(judgement.table.sockets["cookie"][cut].tolist())


def _config_if_any(file: Path | None) -> Config | None:
    """Return the configuration that is followed; None without a valid one, which nobody needs who undoes something."""
    with contextlib.suppress(Refusal):
        return load(None if file == DEFAULT_FILE else file)
    return None


def _arming_again(config: Config | None, file: Path | None, root: Path, daemon: int, outcome: Outcome) -> Iterator[str]:
    """Yield the rules, with their places, that arm later connections of those whose connections were disarmed."""
    disarmed = [one for each in _disarmed(outcome) for one in each.connections]
    if config is None:
        return
    merged = read(file)
    for number, rule in enumerate(config.arm[:-1]):
        if rule.action is not ArmAction.OBSERVE and any(may_match_again(rule, one) for one in disarmed):
            reload = process.how_to_reload(daemon, root) if daemon else how_to_start(root)
            yield (
                f"{merged.place(('arm', number))}: this rule may arm their later connections; "
                f"to prevent that, remove it, then {reload}"
            )


def _disarmed(outcome: Outcome) -> Iterator[Arming]:
    return (each for each in outcome.armings if each.result is ArmingResult.DISARMED)


def _command(
    one: Connection, times: Keepalive, units: Mapping[tuple[str, Keepalive], int], ends: Mapping[str, int]
) -> str:
    """Return the command for a connection, or for all of its unit where several of them were disarmed.

    A connection is named by an end, or by its cookie where others with that end had other times.
    """
    unit = one.owner.unit
    target = f"sk:{one.cookie:x}" if ends[named.rarer_end(one)] > 1 else named.rarer_end(one)
    target = f"--unit {shlex.quote(printable(unit))}" if unit and units[unit, times] > 1 else target
    idle, interval, probes = times
    return f"keepalivectl arm {target} --idle {idle}s --interval {interval}s --probes {probes}"
