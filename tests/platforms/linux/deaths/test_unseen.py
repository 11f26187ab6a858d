"""Ends that the programs did not see, by the kernel's own counter."""

from __future__ import annotations

from dataclasses import dataclass

from keepaliveD.platforms.linux.deaths.unseen import Unseen


@dataclass
class Counters:
    """What the kernel has counted, and what the programs have seen."""

    ended: int = 700
    seen: int = 0

    def unseen(self) -> Unseen:
        """Count from here on."""
        return Unseen(lambda: self.ended, lambda: self.seen)

    def end(self, count: int, seen: int) -> None:
        """So many end, of which so many are seen."""
        self.ended += count
        self.seen += seen


def test_what_was_seen_is_not_counted() -> None:
    counters = Counters()
    unseen = counters.unseen()
    for _ in range(3):
        counters.end(5, seen=5)
        assert unseen.count() == 0


def test_what_was_not_seen_is_counted_a_look_later() -> None:
    counters = Counters()
    unseen = counters.unseen()
    counters.end(5, seen=3)
    assert [unseen.count() for _ in range(3)] == [0, 2, 2]


def test_an_end_that_is_about_to_be_seen_is_not_counted() -> None:
    counters = Counters()
    unseen = counters.unseen()
    counters.end(1, seen=0)
    unseen.count()
    counters.end(0, seen=1)
    assert [unseen.count() for _ in range(3)] == [0, 0, 0]


def test_ends_in_between_hide_what_was_not_seen_only_until_it_is_calm() -> None:
    counters = Counters()
    unseen = counters.unseen()
    counters.end(1, seen=0)
    for _ in range(3):
        counters.end(2, seen=2)
        assert unseen.count() == 0
    assert unseen.count() == 1


def test_what_was_counted_stays_counted() -> None:
    counters = Counters()
    unseen = counters.unseen()
    counters.end(3, seen=0)
    unseen.count()
    assert unseen.count() == 3
    counters.end(9, seen=9)
    assert [unseen.count() for _ in range(2)] == [3, 3]


def test_where_the_kernel_does_not_say_nothing_is_counted() -> None:
    unseen = Unseen(lambda: None, lambda: 5)
    assert [unseen.count() for _ in range(2)] == [0, 0]
