"""What the service manager is told."""

import os
import socket
from pathlib import Path

import pytest

from keepaliveD.daemon.notify import MOST, SHORTEST, Manager, watchdog_period


@pytest.mark.parametrize("abstract", [False, True])
def test_all_assignments_go_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"\0{tmp_path}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        Manager().notify("RELOADING=1", "MONOTONIC_USEC=5")
        assert manager.recv(1024) == b"RELOADING=1\nMONOTONIC_USEC=5"


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Manager().notify("READY=1")


def test_a_manager_that_went_away_does_not_end_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Manager().notify("WATCHDOG=1")


def test_a_sign_of_life_is_due_in_half_the_watchdogs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_period() == 15.0


@pytest.mark.parametrize("pid", [str(os.getpid() + 1), None], ids=["another process", "no process"])
def test_a_watchdog_that_is_somebody_elses_or_off_is_no_concern(
    monkeypatch: pytest.MonkeyPatch, pid: str | None
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_period() == float("inf")


def test_a_manager_that_does_not_read_stalls_nobody_and_gets_what_matters_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        told = Manager()
        full = 10_000  # more messages than any socket keeps
        for number in range(full):
            told.notify(f"WATCHDOG={number}")
        told.notify("READY=1")
        for _ in range(MOST):
            told.notify("WATCHDOG=1")
        for _ in range(full):
            try:
                assert manager.recv(1024).startswith(b"WATCHDOG=")
            except BlockingIOError:
                break
        told.notify("WATCHDOG=last")
        heard = [manager.recv(1024) for _ in range(3)]
        assert heard[1:] == [b"READY=1", b"WATCHDOG=last"]


@pytest.mark.parametrize("nonsense", ["abc", "", "1e6", "-", "9" * 5000, "5 0", "0", "-1", "-30000000"])
def test_a_watchdogs_time_that_is_no_number_of_microseconds_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch, nonsense: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", nonsense)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_period() == float("inf")


@pytest.mark.parametrize(("microseconds", "period"), [("1", SHORTEST), ("20", SHORTEST), ("100000", 0.05)])
def test_a_watchdog_is_notified_often_but_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, period: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_period() == period
