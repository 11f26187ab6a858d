"""Decide when to report what happens repeatedly: the first time at once, later ones as a count, with growing pauses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keepaliveD.model.reports import Repeat

FIRST_PAUSE = 60.0  # seconds
LONGEST_PAUSE = 86_400.0  # seconds; after a silence of that length it is reported as if for the first time


@dataclass
class _Story:
    """What is known of one setting."""

    reported_at: float  # seconds of the clock
    pause: float
    last: float
    count: int = 0  # since it was reported
    value: int = 0


class Repeats:
    """Remembers what happened, by setting."""

    def __init__(self) -> None:
        self._stories: dict[str, _Story] = {}

    def happened(self, key: str, value: int, now: float) -> bool:
        """Note that it happened, and return whether to report it at once; if not, due() returns it later."""
        story = self._stories.get(key)
        if story is None or now - story.last >= LONGEST_PAUSE:
            self._stories[key] = _Story(now, FIRST_PAUSE, now)
            return True
        story.last = now
        if not story.count and now - story.reported_at >= story.pause:
            _mark_reported(story, now)
            return True
        story.count, story.value = story.count + 1, value
        return False

    def due(self, now: float) -> Mapping[str, Repeat]:
        """Return what has happened since the last report, if it is time to report it."""
        due = {}
        for key, story in self._stories.items():
            if story.count and now - story.reported_at >= story.pause:
                due[key] = Repeat(story.count, story.value, now - story.reported_at)
                _mark_reported(story, now)
        return due


def _mark_reported(story: _Story, now: float) -> None:
    story.reported_at, story.count, story.pause = now, 0, min(2 * story.pause, LONGEST_PAUSE)
