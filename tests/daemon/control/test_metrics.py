"""What a daemon has to say for Prometheus: all of it, in a bounded number of series, whose counters never go back."""

from __future__ import annotations

import dataclasses
from collections import Counter

from keepaliveD import __version__
from keepaliveD.daemon.control.metrics import MOST, of_daemon
from keepaliveD.model.autopsy import Tally
from keepaliveD.model.causes import Cause, Foretold
from keepaliveD.model.connections import Counts, Verdict
from keepaliveD.model.keepalive import Shown
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.results import ArmingResult
from keepaliveD.model.rules import Path
from keepaliveD.model.snapshot import AtRisk, Kind, LastScan, Left, Setting, Snapshot, Totals, Tried
from keepaliveD.policy.autopsy.hindsight import MAY_HAVE_FORGOTTEN

SNAPSHOT = Snapshot(
    pid=812,
    running=3600.0,
    applied=True,
    settings=(Setting("net.ipv4.tcp_keepalive_time", 180, 7200, 7200), Setting("gone", 1)),
    engine="bpf engine",
    counts=Counts(42, 3, {Verdict.SAFE: 40, Verdict.BARE: 2}),
    scan=LastScan(1.5, 0.043, 15.0),
    results={ArmingResult.ARMED: 3, ArmingResult.NOT_PERMITTED: 1},
    problems=("reload failed",),
    paths=(Path("office", 300.0, Origin(Source.CONFIGURED, "f")),),
    tally=Tally(
        by_cause=Counter(
            {(Cause.SILENT_AFTER_IDLE, Foretold.FORETOLD): 3, (Cause.PEER_CLOSED, Foretold.NOT_FORESEEABLE): 2}
        ),
        foretold=Counter(
            {
                ("office", "ssh.service", Foretold.FORETOLD): 3,
                ("office", "db.service", Foretold.NEVER_SCANNED): 1,
                ("gone", "ssh.service", Foretold.NOT_FORESEEABLE): 2,
            }
        ),
        saved=Counter({("office", "ssh.service"): 5}),
        ordinary=900,
        lost=7,
    ),
    at_risk=(
        AtRisk("backup.service", 0, Verdict.BARE, 1, True, 10.0),
        AtRisk("", 1000, Verdict.CUT, 1, True, -10.0),
    ),
    now=1_000_000.0,
    totals=Totals(
        1000.0,
        {
            Kind("office", Verdict.SAFE, Shown.ON): 40,
            Kind("office", Verdict.BARE, Shown.OFF): 1,
            Kind("office", Verdict.CUT, Shown.OFF): 1,
        },
        Left((1, 2, 2, 2, 2, 2, 2), 2, 10.0),
        3,
        complete=True,
    ),
    tried=Tried(100, 4.25, 2),
    probes_sent=12345,
)

Series = dict[tuple[str, frozenset[str]], float]


def series(snapshot: Snapshot) -> Series:
    """Each number by the name of its series, without the prefix, and the values of its labels."""
    found: Series = {}
    for metric in of_daemon(snapshot):
        assert metric.name.startswith("tcp_keepalive_")
        assert metric.kind in ("gauge", "counter", "summary", "histogram")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.help.endswith(".")
        for value, labels, suffix in metric.samples:
            key = metric.name.removeprefix("tcp_keepalive_") + suffix, frozenset(labels.values())
            assert key not in found, key
            found[key] = value
    return found


def number(found: Series, name: str, *labels: str) -> float:
    return found[name, frozenset(labels)]


def test_all_that_is_known_is_told() -> None:
    found = series(SNAPSHOT)
    assert number(found, "build_info", __version__) == 1
    assert number(found, "start_time_seconds") == 996_400
    assert number(found, "problems") == 1
    assert number(found, "connections", "office", "safe", "on") == 40
    assert number(found, "unit_connections_at_risk", "backup.service", "bare") == 1
    assert number(found, "unit_connections_at_risk", "uid 1000", "cut") == 1
    assert number(found, "left_seconds_bucket", "0") == 1
    assert number(found, "left_seconds_bucket", "+Inf") == number(found, "left_seconds_count") == 2
    assert number(found, "namespaces") == 3
    assert number(found, "scan_complete") == 1
    assert number(found, "scan_duration_seconds_sum") == 4.25
    assert number(found, "scan_duration_seconds_count") == 100
    assert number(found, "last_scan_timestamp_seconds") == 999_998.5
    assert number(found, "setting", "net.ipv4.tcp_keepalive_time") == 7200
    assert number(found, "setting_wanted", "gone") == 1
    assert ("setting", frozenset(["gone"])) not in found
    assert number(found, "drifts_total") == 2
    assert number(found, "armings_total", "not permitted") == 1
    assert number(found, "deaths_total", "silent-after-idle", "yes") == 3
    assert number(found, "path_deaths_total", "office", "no") == 1
    assert number(found, "path_deaths_total", "gone", "not foreseeable") == 2
    assert number(found, "saves_total", "office") == 5
    assert number(found, "closes_total") == 900
    assert number(found, "death_records_lost_total") == 7
    assert number(found, "probes_sent_total") == 12345


def test_counters_are_there_before_anything_happens() -> None:
    """The first death would raise no alert otherwise: a rate needs a number to begin with."""
    found = series(dataclasses.replace(SNAPSHOT, results={}, tally=Tally()))
    assert number(found, "deaths_total", "middlebox-idle", "no") == 0
    assert number(found, "deaths_total", "local-kill", "not foreseeable") == 0
    assert number(found, "path_deaths_total", "office", "yes") == 0
    assert number(found, "saves_total", "office") == 0
    assert all(number(found, "armings_total", result.value) == 0 for result in ArmingResult)


def test_every_death_is_in_a_series_that_was_there_before() -> None:
    names = set(series(dataclasses.replace(SNAPSHOT, tally=Tally())))
    counts = dict.fromkeys(SNAPSHOT.tally.by_cause, 1)
    perhaps = [(Cause(cause), Foretold.FORETOLD) for cause in MAY_HAVE_FORGOTTEN]
    missed = Cause.MIDDLEBOX_IDLE, Foretold.PRESUMED_SAFE
    tally = Tally(by_cause=Counter({**counts, **dict.fromkeys([missed, *perhaps], 1)}))
    assert set(series(dataclasses.replace(SNAPSHOT, tally=tally))) == names


def test_units_and_paths_are_bounded_and_the_rest_is_other() -> None:
    """10,000 units are as many series as 20, and none is forgotten."""
    units = tuple(AtRisk(f"{each}.service", 0, Verdict.BARE, 1 + (each == 500), True, 1.0) for each in range(1000))
    kinds = {Kind(f"p{each}", Verdict.BARE, Shown.OFF): 1 + (each == 50) for each in range(100)}
    found = series(dataclasses.replace(SNAPSHOT, at_risk=units[:900], totals=Totals(1.0, {**kinds, **more(901)})))
    assert sum(name == "unit_connections_at_risk" for name, _ in found) == MOST + 1
    assert number(found, "unit_connections_at_risk", "500.service", "bare") == 2
    assert number(found, "unit_connections_at_risk", "other", "bare") == 100 + 1 + 901 - 21
    assert sum(name == "connections" for name, _ in found) == MOST + 1
    assert number(found, "connections", "more", "bare", "off") == 901
    assert number(found, "connections", "p50", "bare", "off") == 2
    assert number(found, "connections", "other", "bare", "off") == 100 + 1 - 2 - (MOST - 2)


def test_no_number_of_users_crowds_a_unit_out() -> None:
    """Whoever may make users, or runs programs under many, has more connections than the unit that matters."""
    users = tuple(AtRisk("", 1000 + each, Verdict.BARE, 100, True, 1.0) for each in range(25))
    unit = AtRisk("backup.service", 0, Verdict.BARE, 1, True, 2.0)
    found = series(dataclasses.replace(SNAPSHOT, at_risk=(*users, unit), totals=Totals(1.0, more(2501))))
    assert number(found, "unit_connections_at_risk", "backup.service", "bare") == 1
    assert sum(name == "unit_connections_at_risk" for name, _ in found) == MOST + 1
    assert number(found, "unit_connections_at_risk", "other", "bare") == 100 * (25 - (MOST - 1))


def more(count: int) -> dict[Kind, int]:
    return {Kind("more", Verdict.BARE, Shown.OFF): count}


def test_a_counter_of_a_path_never_goes_back_when_another_path_overtakes_it() -> None:
    """Of many paths those are named that were there first."""
    first = Tally(saved=Counter({(f"p{each}", "u"): 1 for each in range(100)}))
    before = series(dataclasses.replace(SNAPSHOT, tally=first))
    first.saved["p90", "u"] += 1000
    after = series(dataclasses.replace(SNAPSHOT, tally=first))
    assert set(after) == set(before)
    assert all(after[key] >= value for key, value in before.items() if key[0] == "saves_total")
    assert number(after, "saves_total", "other") == number(before, "saves_total", "other") + 1000


def test_without_a_scan_nothing_is_said_of_connections() -> None:
    """A zero would say that somebody has looked; counters begin at zero."""
    started = dataclasses.replace(
        SNAPSHOT, scan=None, totals=Totals(), at_risk=(), tried=Tried(), tally=Tally(), probes_sent=None
    )
    names = {name for name, _ in series(started)}
    of_scans = {"connections", "unit_connections_at_risk", "namespaces", "scan_complete", "last_scan_timestamp_seconds"}
    assert of_scans < {name for name, _ in series(SNAPSHOT)}
    assert not names & of_scans
    assert not [name for name in names if name.startswith("left_seconds")]
    assert number(series(started), "scan_duration_seconds_count") == 0
    assert {"start_time_seconds", "problems", "setting", "deaths_total", "armings_total"} < names
    assert "probes_sent_total" not in names
