"""Which engine is taken, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD.model.errors import KernelError, NotPermitted, Unsupported
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux import selection
from keepaliveD.platforms.linux.reading.engine import OneByOne
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher

ROOT = Path("/")
OLD = Unsupported("the kernel is too old")
SHUT = NotPermitted("the kernel refuses BPF")


class Engine(OneByOne):
    """Tells of one socket, until it fails; says what is open."""

    def __init__(self, name: str, cookie: int = 1) -> None:
        super().__init__(scratch=1)
        self.name = name
        self.cookie = cookie
        self.failing = False
        self.closed = False

    def reader(self) -> Reader:
        return Reader(self)

    def close(self) -> None:
        super().close()
        self.closed = True


class Reader:
    """One of such an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        assert scratch
        if self.engine.failing:
            raise KernelError(f"{self.engine.name}: it is gone")
        new = sockets.extend(1)
        for column in new.values():
            column[:] = 0
        new["cookie"][:] = self.engine.cookie
        new["netns"][:] = netns
        return True

    def close(self) -> None:
        assert not self.engine.closed


def refusing(refusal: Exception) -> Callable[..., Engine]:
    """An engine that cannot be loaded."""

    def refuse(*_: object) -> Engine:
        raise refusal

    return refuse


def test_auto_takes_bpf_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows more and costs less."""
    bpf = Engine("bpf")
    monkeypatch.setattr(selection, "BpfWalker", lambda *_: bpf)
    for wanted in ("auto", "bpf"):
        engine, reason = selection.select_engine(wanted, ROOT, ())
        assert engine is bpf
        assert reason == ""


@pytest.mark.parametrize("wanted", ["auto", "bpf"])
def test_a_kernel_too_old_for_the_walk_is_read_by_the_iterator(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """Slower, but it tells the same, and somebody may want to know why."""
    bpf = Engine("bpf")
    monkeypatch.setattr(selection, "BpfWalker", refusing(OLD))
    monkeypatch.setattr(selection, "BpfIterator", lambda *_: bpf)
    engine, reason = selection.select_engine(wanted, ROOT, ())
    assert engine is bpf
    assert reason == f"one namespace at a time: {OLD}"


@pytest.mark.parametrize("refusal", [OLD, SHUT])
def test_auto_takes_netlink_else_and_says_why(monkeypatch: pytest.MonkeyPatch, refusal: Exception) -> None:
    """Watching must not depend on it."""
    monkeypatch.setattr(selection, "BpfWalker", refusing(refusal))
    monkeypatch.setattr(selection, "BpfIterator", refusing(refusal))
    engine, reason = selection.select_engine("auto", ROOT, ())
    assert (engine.name, reason) == ("netlink", str(refusal))
    with pytest.raises(type(refusal), match=f'watch.engine = "bpf": {refusal}'):
        selection.select_engine("bpf", ROOT, ())


def test_netlink_is_taken_where_it_is_wanted_without_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have his reasons."""
    monkeypatch.setattr(selection, "BpfWalker", pytest.fail)
    engine, reason = selection.select_engine("netlink", ROOT, ())
    assert (engine.name, reason) == ("netlink", "")


def test_an_engine_that_fails_is_replaced_in_the_same_scan() -> None:
    """A scan that is left out could be the one before a cut."""
    first, spare = Engine("bpf"), Engine("netlink")
    watcher = SocketWatcher(ROOT, first, spare=spare, all_namespaces=False)
    assert watcher.scan(0.0).sockets["cookie"].tolist() == [1]
    assert watcher.engine_description == "bpf engine"
    first.failing = True
    assert watcher.scan(1.0).sockets["cookie"].tolist() == [1]
    assert watcher.engine_description == "netlink engine (bpf: it is gone)"
    assert first.closed
    watcher.close()
    assert spare.closed


def test_a_spare_that_fails_too_is_not_replaced_by_itself() -> None:
    """The daemon says that it is blind, and tries again."""
    first, spare = Engine("bpf"), Engine("netlink")
    watcher = SocketWatcher(ROOT, first, spare=spare, all_namespaces=False)
    first.failing = spare.failing = True
    for _ in range(2):
        with pytest.raises(KernelError, match="netlink: it is gone"):
            watcher.scan(0.0)
    spare.failing = False
    assert len(watcher.scan(1.0)) == 1


def test_without_a_spare_a_failure_is_a_failure() -> None:
    """engine = "bpf" was asked for."""
    first = Engine("bpf")
    watcher = SocketWatcher(ROOT, first, all_namespaces=False)
    first.failing = True
    with pytest.raises(KernelError):
        watcher.scan(0.0)
