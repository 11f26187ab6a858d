"""What a path's idle timeout must be, by the silences that its connections survived and those in which they died.

Each path has two counters in logarithmic bins. With one timeout, deaths are rare in silences below it and common
above: a change point, whose probability follows from the counters. Both ends of the interval are honest: devices
scan lazily, and bins have a width.

It advises. A timeout that is a mere guess becomes shorter by it, never longer, and verdicts follow that; what is
armed does not: no keepalive interval follows from evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.findings import Finding
from keepaliveD.model.routes import Route
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Bools, Column, Indices

BINS = 280  # from 1 s to 10 days
WIDTH = 1.05  # of a bin: its end by its beginning
SHORTEST = 1.0  # seconds: a shorter silence shows nothing

BELOW = 1.0, 40.0  # what is expected of silences below the timeout, as if so many had died and so many lived ...
ABOVE = 20.0, 1.0  # ... and of those above
ON_PRODUCTS = 0.5  # probability that the timeout is one of the catalogue's; the rest is spread over all bins
TAIL = 0.0125  # probability beyond each end of the interval
LAZY = 1.15  # a device that looks for idle connections now and then forgets so much later than its timeout

DEATHS = 3  # that must agree, at two peers at least, before anything is concluded from them
SILENCES = 20  # that must have been survived before a timeout is called too short
A_DAY = 86400.0  # seconds between two pieces of advice about one path

NOBODY = np.uint64(2**64 - 1)
Subject = tuple[str, Route | None]  # of advice: the name of a path, and one of its routes, or None for all


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counters of each path, by bin of the silence. All columns have the shape (paths, BINS)."""

    lived: Column  # silences that a connection survived
    died: Column  # silences in which a connection died
    lowest_peer: Column  # the lowest number of a peer among the deaths, NOBODY for none ...
    highest_peer: Column  # ... and the highest: two peers, where they differ


class Events(NamedTuple):
    """Silences that ended, as columns: the peer was heard again, or the connection died."""

    path: Indices
    silence: Column  # seconds
    died: Bools
    peer: Column  # a number for its address, u8
    other_peer: Column | None = None  # the same of another one that died together with it, or of itself

    def select(self, rows: Indices | Bools) -> Events:
        """Return these of the events."""
        return Events(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]


class Estimate(NamedTuple):
    """What the counters say of each path, as columns. Seconds."""

    at_least: Column  # the timeout, surely; 0 where nothing is known
    at_most: Column  # FOREVER where nothing is known
    deaths: Column  # in silences longer than `at_least`
    several_peers: Bools  # whether these are of two peers or more


def nothing_known(paths: int) -> Evidence:
    """Return the counters of so many paths before the first event."""
    shape = (paths, BINS)
    counts, peers = np.zeros(shape, np.int64), np.zeros(shape, np.uint64)
    return Evidence(counts, counts, np.full(shape, NOBODY), peers)


def observe(before: Evidence, events: Events) -> Evidence:
    """Count events; a silence that is shorter than any bin shows nothing."""
    counted = np.flatnonzero(events.silence >= SHORTEST)
    place = events.path[counted] * BINS + bin_of(events.silence[counted])
    died, shape = events.died[counted], before.lived.shape
    deaths, fatal = place[died], counted[died]
    peers = events.peer[fatal]
    others = peers if events.other_peer is None else events.other_peer[fatal]
    lowest, highest = before.lowest_peer.ravel().copy(), before.highest_peer.ravel().copy()
    np.minimum.at(lowest, deaths, np.minimum(peers, others))
    np.maximum.at(highest, deaths, np.maximum(peers, others))
    size = before.lived.size
    return Evidence(
        before.lived + np.bincount(place[~died], minlength=size).reshape(shape),
        before.died + np.bincount(deaths, minlength=size).reshape(shape),
        lowest.reshape(shape),
        highest.reshape(shape),
    )


def bin_of(silence: Column) -> Indices:
    """Return the bin of each silence in seconds; the last one is open."""
    number = np.floor(np.log(np.maximum(silence, SHORTEST)) / math.log(WIDTH)).astype(np.intp)
    return np.minimum(number, BINS - 1)


def estimate(evidence: Evidence, products: Sequence[float]) -> Estimate:
    """Return between which silences the timeout of each path lies; `products` are timeouts of the catalogue."""
    probability = _posterior(evidence, products)
    reached = np.cumsum(probability, axis=1)
    first = (reached <= TAIL).sum(axis=1)
    last = (reached < 1 - TAIL).sum(axis=1)
    at_least = np.where(first == 0, 0.0, SHORTEST * WIDTH ** (first - 1.0) / LAZY)
    at_most = np.where(last >= BINS, FOREVER, SHORTEST * WIDTH ** (last + 1.0))
    beyond = np.arange(BINS) >= np.maximum(first - 1, 0)[:, np.newaxis]
    deaths = np.where(beyond, evidence.died, 0).sum(axis=1)
    lowest = np.where(beyond, evidence.lowest_peer, NOBODY).min(axis=1)
    highest = np.where(beyond, evidence.highest_peer, 0).max(axis=1)
    return Estimate(at_least, at_most, deaths, (deaths > 0) & (lowest < highest))


def findings(
    paths: Sequence[Path], evidence: Evidence, products: Sequence[float], routes: Sequence[Route] = ()
) -> Iterator[Finding]:
    """Yield what contradicts the timeouts of these paths, or of one path by `routes`, as far as it is beyond doubt."""
    found = estimate(evidence, products)
    for number, path in enumerate(paths):
        route = routes[number] if routes else None
        if path.timeout == FOREVER or path.counts is WhatCounts.DATA:
            continue  # a person has said that silences do not matter there, or that keepalive does not
        at_least, at_most = float(found.at_least[number]), float(found.at_most[number])
        deaths, several = int(found.deaths[number]), bool(found.several_peers[number])
        timeout_bin, least_bin = bin_of(np.array([path.timeout, at_least])).tolist()
        survived = int(evidence.lived[number, timeout_bin + 1 :].sum())
        if deaths >= DEATHS and several and at_most < path.timeout and at_least >= SHORTEST:
            yield Finding(path, at_least, at_most, deaths, survived, is_shorter=True, route=route)
        elif (
            survived >= SILENCES
            and at_least > path.timeout
            and not _agree(evidence, number, slice(timeout_bin + 1, least_bin))
        ):
            yield Finding(path, at_least, at_most, deaths, survived, is_shorter=False, route=route)


def _agree(evidence: Evidence, path: int, bins: slice) -> bool:
    """Whether enough connections died there: some of the path's connections may take a device with that timeout."""
    lowest, highest = evidence.lowest_peer[path, bins], evidence.highest_peer[path, bins]
    return bool(evidence.died[path, bins].sum() >= DEATHS and lowest.min() < highest.max())


def shortened(found: Sequence[Finding], before: Mapping[str, Path]) -> Mapping[str, Path]:
    """Return by name the guessed paths whose timeouts these findings shorten; one stays as long as it still fits."""
    shorter = {}
    for one in found:
        if not one.shortens:
            continue
        known = before.get(one.path.name)
        if known is None or not one.at_least / LAZY <= known.timeout <= one.at_most:
            known = replace(one.path, timeout=one.timeout, origin=one.origin)
        shorter[known.name] = known
    return shorter


def to_advise(
    found: Sequence[Finding], advised: Mapping[Subject, float], now: float
) -> tuple[list[Finding], Mapping[Subject, float]]:
    """Return the findings to report now, and when each path or route was last advised about: at most once a day."""
    due = [one for one in found if now - advised.get((one.path.name, one.route), -FOREVER) >= A_DAY]
    return due, {**advised, **{(one.path.name, one.route): now for one in due}}


def _posterior(evidence: Evidence, products: Sequence[float]) -> Column:
    """Return for each path the probability of a timeout at the beginning of each bin; the last is that of none."""
    died, lived = (np.cumsum(_before(column), axis=1) for column in (evidence.died, evidence.lived))
    below = _log_beta(BELOW[0] + died, BELOW[1] + lived)
    above = _log_beta(ABOVE[0] + died[:, -1:] - died, ABOVE[1] + lived[:, -1:] - lived)
    logs = below + above + np.log(_prior(products))
    logs -= logs.max(axis=1, keepdims=True)
    weights = np.exp(logs)
    probability: Column = weights / weights.sum(axis=1, keepdims=True)
    return probability


def _before(column: Column) -> Column:
    """Return the column with a bin more, so that its sums are those of all bins before."""
    return np.concatenate([np.zeros((len(column), 1)), column], axis=1)


def _prior(products: Sequence[float]) -> Column:
    """Return the probability of each change point before any evidence."""
    prior = np.full(BINS + 1, 1 / (BINS + 1))
    if products:
        on_products = np.zeros(BINS + 1)
        for place in bin_of(np.array(products, np.float64)).tolist():
            on_products[place : place + 2] += 0.5 / len(products)  # it lies within the bin
        prior = (1 - ON_PRODUCTS) * prior + ON_PRODUCTS * on_products
    return prior


def _log_beta(one: Column, other: Column) -> Column:
    return _log_gamma(one) + _log_gamma(other) - _log_gamma(one + other)


def _log_gamma(number: Column) -> Column:
    """Return the logarithm of the gamma function of numbers from 1 on, to 1e-9: Stirling's series, eight further on."""
    product = np.ones_like(number)
    for step in range(8):
        product = product * (number + step)
    far = number + 8.0
    series = 1 / (12 * far) - 1 / (360 * far**3) + 1 / (1260 * far**5)
    logarithm: Column = (far - 0.5) * np.log(far) - far + 0.5 * math.log(2 * math.pi) + series - np.log(product)
    return logarithm
