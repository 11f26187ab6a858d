"""Turns what the programs tell (deaths.bpf.c) into rows of model.deaths.DEATH."""

from __future__ import annotations

import errno

import numpy as np

from keepaliveD.model.deaths import DEATH, Reset
from keepaliveD.model.sockets import Bools, Column, Floats, TcpState
from keepaliveD.platforms.linux.bpf.deaths import NEVER, RECORD
from keepaliveD.platforms.linux.bpf.libbpf import JIFFIES

ADDRESSES = ("local", "remote")
SECONDS = {  # how much of one the program's unit is
    **dict.fromkeys(("since_sent", "since_received", "since_acked", "since_fin"), 1 / JIFFIES),
    **dict.fromkeys(("since_peer_probe", "peer_probe_gap", "since_syn"), 1 / JIFFIES),
    "since_lost": 1e-3,
    "timeout": 1e-6,
    "ended_at": 1e-9,
}
FIN_SENT = (TcpState.FIN_WAIT1.value, 9, 11)  # LAST_ACK, CLOSING: the peer has not acknowledged it
LEVELS = 63 << 3 * np.arange(8)  # jiffies from which on a timer is in the next level of the wheel
WHOLE_SECONDS = ("keepidle", "keepintvl")
AS_THEY_ARE = [name for name in RECORD.names or () if name in (DEATH.names or ()) and name not in SECONDS]


def decode(records: Column) -> Column:
    """Return these records as rows of DEATH."""
    rows = np.zeros(len(records), DEATH)
    for name in AS_THEY_ARE:
        rows[name] = records[name]
    for name in ADDRESSES:
        rows[f"{name}_high"], rows[f"{name}_low"] = records[name]["high"], records[name]["low"]
    for name, unit in SECONDS.items():
        rows[name] = _spans(records[name], unit)
    for name in WHOLE_SECONDS:
        rows[name] //= np.uint32(JIFFIES)
    rows["silence"] = _silence(rows, _spans(records["fin_silence"], 1 / JIFFIES))
    return rows


def _spans(column: Column, unit: float) -> Floats:
    """Seconds, or NaN where there is no instant."""
    return np.where(column == NEVER, np.nan, column * unit)


def _silence(rows: Column, before_fin: Floats) -> Floats:
    """How long nothing had come from the peer when the first packet was sent that it did not answer."""
    heard = np.fmin(np.fmin(rows["since_acked"], rows["since_received"]), rows["since_peer_probe"])
    silence = np.maximum(heard - _unanswered(rows), 0)
    return np.where(np.isnan(before_fin) | (rows["error"] != 0), silence, before_fin)


def _unanswered(rows: Column) -> Floats:
    """For how long the peer has not answered what was sent; 0 where nothing was sent."""
    # what is counted as sent last is a retransmission, if there was one; a FIN without data does not count
    once = np.where(_is_fin_alone(rows), 0.0, rows["since_sent"])
    data = np.where(np.isnan(rows["since_lost"]), once, rows["since_lost"] + rows["timeout"])
    last_one_waits = rows["error"] == errno.ETIMEDOUT
    intervals = np.maximum(rows["probes"] - np.where(last_one_waits, 0.0, 1.0), 0)
    probes = np.where(rows["unsent"] > 0, 0.0, intervals * _fires_after(rows["keepintvl"]))
    lingers = rows["reset"] == Reset.NONE.value
    return np.where((rows["unacked"] > 0) & ~(lingers & (rows["error"] == 0)), data, probes)


def _fires_after(seconds: Column) -> Floats:
    """Return how long a timer takes that is set for so long when another one fires, as the next probe's is.

    A level of the timer wheel has buckets of 1, 8, 64, ... jiffies; a timer fires at the end of its own (calc_index,
    kernel/time/timer.c).
    """
    jiffies = seconds.astype(np.int64) * JIFFIES
    bucket = 8 ** np.searchsorted(LEVELS, jiffies, side="right")
    fires: Floats = (jiffies // bucket + 1) * bucket / JIFFIES
    return fires


def _is_fin_alone(rows: Column) -> Bools:
    """Return where only the FIN of this end is on its way, which has a number like an octet of data."""
    alone: Bools = np.isin(rows["state"], FIN_SENT) & (rows["unacked"] == 1) & (rows["unsent"] == 0)
    return alone
