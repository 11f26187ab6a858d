"""What a process must not touch it refuses; what it may, it writes down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keepaliveD.platforms import touching
from keepaliveD.platforms.touching import Kind, MustNotTouch

HOME, ELSEWHERE = 1, 2


@pytest.fixture(autouse=True)
def _nothing_is_avoided() -> Iterator[None]:
    touching.be_at_home(HOME)
    yield
    touching.avoid(frozenset())


def test_what_hung_is_refused() -> None:
    touching.avoid(frozenset({(Kind.NAMESPACE, ELSEWHERE)}))
    touching.now(Kind.NAMESPACE, HOME)
    with pytest.raises(MustNotTouch):
        touching.now(Kind.NAMESPACE, ELSEWHERE)
    with pytest.raises(MustNotTouch):
        touching.await_locks(ELSEWHERE)


def test_who_is_careful_locks_sockets_at_home_alone() -> None:
    """Other namespaces may be entered all the same."""
    touching.avoid(frozenset(), careful=True)
    touching.await_locks(HOME)
    touching.now(Kind.NAMESPACE, ELSEWHERE)
    with pytest.raises(MustNotTouch):
        touching.await_locks(ELSEWHERE)


def test_at_home_what_hung_is_refused_too() -> None:
    touching.avoid(frozenset({(Kind.NAMESPACE, HOME)}), careful=True)
    with pytest.raises(MustNotTouch):
        touching.await_locks(HOME)
