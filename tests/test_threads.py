"""A thread that never begins or never ends makes nobody wait for ever."""

from __future__ import annotations

import _thread
import threading
import time

import pytest

from keepaliveD.threads import Task


def test_the_result_of_a_task_is_what_its_work_returned_or_raised() -> None:
    assert Task(lambda: 5).result(within=60) == 5
    with pytest.raises(KeyError):
        Task(lambda: {"a": 1}["b"]).result(within=60)


def test_a_task_that_does_not_end_is_not_waited_for() -> None:
    gate = threading.Event()
    task = Task(gate.wait)
    assert not task.wait(0.01)
    with pytest.raises(TimeoutError, match="no answer within"):
        task.result(within=0.01)
    gate.set()
    assert task.wait(60)


def test_a_thread_that_dies_before_it_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """threading.Thread.start() would wait for it for ever, and a daemon that enters many namespaces for hours."""
    monkeypatch.setattr(_thread, "start_new_thread", lambda *_: 0)
    begin = time.monotonic()
    with pytest.raises(OSError, match="no memory for another thread"):
        Task(lambda: 5).result(within=60)
    assert time.monotonic() - begin < 30


def test_where_no_thread_can_be_started_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(OSError, match="can't start new thread: raise the limit"):
        Task(lambda: 5)
