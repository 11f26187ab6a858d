"""What survived silences and deaths say of a path's idle timeout, and what may follow from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from keepaliveD.config.catalogue import catalogue
from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.findings import Finding
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path
from keepaliveD.policy.timeouts import path_evidence
from keepaliveD.policy.timeouts.path_evidence import (
    A_DAY,
    Events,
    Evidence,
    estimate,
    findings,
    nothing_known,
    observe,
    to_advise,
)

PRODUCTS = [preset.timeout for preset in catalogue().values()]
GUESS = Path("default", 600.0, Origin(Source.PLATFORM, "Google Compute Engine"))


def counted(*events: tuple[float, bool, int], times: int = 1) -> Evidence:
    """The counters of one path after these events (silence, whether it died, peer), so many times."""
    silence, died, peer = zip(*(events * times), strict=True)
    columns = Events(np.zeros(len(silence), np.intp), np.array(silence), np.array(died), np.array(peer, np.uint64))
    return observe(nothing_known(1), columns)


def lived(*silences: float) -> list[tuple[float, bool, int]]:
    return [(silence, False, 1) for silence in silences]


def died(*silences: float, peer: int = 1) -> list[tuple[float, bool, int]]:
    return [(silence, True, peer + number) for number, silence in enumerate(silences)]


def found(evidence: Evidence, path: Path = GUESS) -> list[Finding]:
    return list(findings([path], evidence, PRODUCTS))


def simulated(rng: np.random.Generator, timeouts: Sequence[float], near: int, noise: float) -> Evidence:
    """Paths with so many silences within a factor of two of their timeouts, and nine times as many shorter ones."""
    truth = np.repeat(np.asarray(timeouts), 10 * near)
    factor = np.where(
        np.arange(len(truth)) % 10 == 0,
        np.exp(rng.uniform(-math.log(2), math.log(2), len(truth))),
        np.exp(rng.normal(-3.0, 1.0, len(truth))),
    )
    silence = truth * factor
    dead = silence >= truth
    dead |= rng.random(len(truth)) < noise  # a peer that restarted, say
    dead &= rng.random(len(truth)) >= noise  # a packet that nobody here saw
    path = np.repeat(np.arange(len(timeouts)), 10 * near)
    return observe(nothing_known(len(timeouts)), Events(path, silence, dead, rng.integers(0, 9, len(truth), np.uint64)))


def test_the_interval_holds_the_timeout_of_95_paths_in_100() -> None:
    """1,000 paths, 100 silences about each timeout, 2 % unrelated deaths and 2 % unseen packets."""
    rng = np.random.default_rng(16)
    timeouts = np.exp(rng.uniform(math.log(30), math.log(86400), 1000))
    timeouts[::2] = rng.choice(PRODUCTS[:-2], 500)
    result = estimate(simulated(rng, timeouts.tolist(), 100, 0.02), PRODUCTS)
    holds = (result.at_least <= timeouts) & (timeouts <= result.at_most)
    assert holds.mean() >= 0.95
    assert np.median(result.at_most / result.at_least) < 1.5, "and is worth something"


def test_little_evidence_only_widens_the_interval() -> None:
    rng = np.random.default_rng(17)
    timeouts = np.exp(rng.uniform(math.log(30), math.log(86400), 500))
    result = estimate(simulated(rng, timeouts.tolist(), 10, 0.02), PRODUCTS)
    assert ((result.at_least <= timeouts) & (timeouts <= result.at_most)).mean() >= 0.95


def test_a_device_that_looks_now_and_then_forgets_within_the_interval() -> None:
    """It kills connections of T to 1.15 T: the timeout that is safe to assume is T."""
    rng = np.random.default_rng(18)
    silence = np.exp(rng.uniform(math.log(100), math.log(1000), 2000))
    dead = silence > 350 * (1 + 0.15 * rng.random(2000))
    peers = rng.integers(0, 9, 2000, np.uint64)
    result = estimate(observe(nothing_known(1), Events(np.zeros(2000, np.intp), silence, dead, peers)), PRODUCTS)
    assert result.at_least[0] <= 350
    assert result.at_most[0] >= 350 * 1.05


def test_without_evidence_nothing_is_known() -> None:
    result = estimate(nothing_known(2), PRODUCTS)
    assert result.at_least.max() < 10
    assert result.at_most.min() > 86400
    assert list(findings([GUESS, GUESS], nothing_known(2), PRODUCTS)) == []


def test_three_deaths_at_two_peers_contradict_a_longer_timeout() -> None:
    (one,) = found(counted(*lived(*[100.0, 200.0, 300.0] * 20), *died(400.0, 450.0, 500.0)))
    assert one.is_shorter
    assert 200 < one.timeout <= 350
    assert str(one.origin).startswith("evidence: 3 connections died in silences of ")


def test_deaths_at_one_peer_prove_nothing_about_the_path() -> None:
    """Its machine may have restarted three times."""
    one_peer = [(silence, True, 7) for silence in (400.0, 450.0, 500.0)]
    assert found(counted(*lived(*[100.0, 200.0, 300.0] * 20), *one_peer)) == []


def test_two_deaths_are_not_enough() -> None:
    assert found(counted(*lived(*[100.0, 200.0, 300.0] * 20), *died(400.0, 450.0))) == []


def test_forty_longer_silences_contradict_a_shorter_timeout() -> None:
    short = dataclasses.replace(GUESS, timeout=240.0)
    (one,) = found(counted(*lived(900.0), times=40), short)
    assert (one.is_shorter, one.survived) == (False, 40)
    assert str(one.origin) == "evidence: connections survived 40 silences longer than 4min"


def test_nothing_is_called_too_short_where_some_connections_take_a_device_that_forgets_sooner() -> None:
    """One in ten dies after 350 s. The longer timeout would call silences safe in which these die."""
    silences, short = lived(*[700.0, 1000.0, 3000.0] * 30), dataclasses.replace(GUESS, timeout=240.0)
    assert [one.is_shorter for one in found(counted(*silences, *died(400.0, 700.0)), short)] == [False]
    assert found(counted(*silences, *died(400.0, 700.0, 1000.0)), short) == []
    one_peer = [(silence, True, 7) for silence in (400.0, 700.0, 1000.0)]
    assert [one.is_shorter for one in found(counted(*silences, *one_peer), short)] == [False], "it may have restarted"


def test_deaths_above_the_timeout_say_what_was_known() -> None:
    evidence = counted(*lived(*[100.0, 300.0, 500.0] * 20), *died(700.0, 800.0, 900.0, 1000.0))
    assert found(evidence) == []


@pytest.mark.parametrize("change", [{"timeout": FOREVER}, {"counts": WhatCounts.DATA}])
def test_a_path_that_never_forgets_or_counts_only_data_is_left_alone(change: dict[str, Any]) -> None:
    path = dataclasses.replace(GUESS, **change)
    assert found(counted(*lived(*[100.0, 200.0] * 20), *died(400.0, 450.0, 500.0)), path) == []


def test_a_path_is_advised_about_once_a_day() -> None:
    (one,) = found(counted(*lived(900.0), times=40), dataclasses.replace(GUESS, timeout=240.0))
    due, advised = to_advise([one], {}, 1000.0)
    assert due == [one]
    assert to_advise([one], advised, 1000.0 + A_DAY - 1)[0] == []
    assert to_advise([one], advised, 1000.0 + A_DAY)[0] == [one]


def test_events_add_up_by_path_and_length() -> None:
    silences, dead = np.array([5.0, 5.0, 0.5, 1e9]), np.array([False, True, True, True])
    events = Events(np.array([0, 1, 1, 1]), silences, dead, np.arange(4, dtype=np.uint64))
    twice = observe(observe(nothing_known(2), events), events)
    assert (twice.lived.sum(axis=1).tolist(), twice.died.sum(axis=1).tolist()) == ([2, 0], [0, 4])
    assert twice.died[1, -1] == 2, "the last bin is open, and the shortest silences show nothing"


def test_the_logarithm_of_the_gamma_function_is_that_of_the_c_library() -> None:
    numbers = np.array([1.0, 1.5, 20.0, 41.0, 1e3, 1e6])
    library = [math.lgamma(number) for number in numbers.tolist()]
    assert path_evidence._log_gamma(numbers) == pytest.approx(library, rel=1e-9, abs=1e-9)
