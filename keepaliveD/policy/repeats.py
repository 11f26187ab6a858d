"""What happens again and again: the first time is told at once, the others as a count, at growing pauses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keepaliveD.model.actions import Repeat

FIRST_PAUSE = 60.0  # seconds
LONGEST_PAUSE = 86_400.0  # seconds; after a silence of that length it is told as if for the first time


@dataclass
class _Story:
    """What is known of one thing."""

    told: float  # seconds of the clock
    pause: float
    last: float
    count: int = 0  # since it was told
    value: int = 0


class Repeats:
    """What happened, by setting."""

    def __init__(self) -> None:
        self._stories: dict[str, _Story] = {}

    def happened(self, key: str, value: int, now: float) -> bool:
        """Note that it happened, and return whether to tell it at once; if not, due() tells of it."""
        story = self._stories.get(key)
        if story is None or now - story.last >= LONGEST_PAUSE:
            self._stories[key] = _Story(now, FIRST_PAUSE, now)
            return True
        story.last = now
        if not story.count and now - story.told >= story.pause:
            _tell(story, now)
            return True
        story.count, story.value = story.count + 1, value
        return False

    def due(self, now: float) -> Mapping[str, Repeat]:
        """What has happened since it was told last, where it is time to tell it."""
        due = {}
        for key, story in self._stories.items():
            if story.count and now - story.told >= story.pause:
                due[key] = Repeat(story.count, story.value, now - story.told)
                _tell(story, now)
        return due


def _tell(story: _Story, now: float) -> None:
    story.told, story.count, story.pause = now, 0, min(2 * story.pause, LONGEST_PAUSE)
