"""Which of pytest-xdist's workers runs which tests: a few run only those that wait, for others to work meanwhile."""

from __future__ import annotations

from itertools import chain

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

WAITS = "waits:"  # what the name of a group begins with whose tests wait most of the time


class Lanes(LoadGroupScheduling):
    """Groups of tests are handed out as ever, but those that wait to workers of their own, in the order collected.

    The others come by size, the largest first. One that waits may be a single test, and take longer than all others:
    begun last, it would be what all wait for at the end.
    Were these handed to any worker, too, most workers would wait at one time, and all want a processor at another.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self._waiters: set[WorkerController] = set()
        self._waiting: list[str] = []

    def schedule(self) -> None:
        """Begin, or go on with a worker that takes the place of one that crashed."""
        if self.collection is None:
            tests = next(iter(self.registered_collections.values()))
            groups = dict.fromkeys(map(self._split_scope, tests))
            self._waiting = [group for group in groups if group.startswith(WAITS)]
            self._waiters = set(self.nodes[: min(len(self._waiting), len(self.nodes) // 2)])
        super().schedule()

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Hand out the next group of this worker's kind, or of the other kind when there is none left."""
        waiting = (group for group in self._waiting if group in self.workqueue)
        others = (group for group in self.workqueue if not group.startswith(WAITS))
        order = (waiting, others) if node in self._waiters else (others, waiting)
        self.workqueue.move_to_end(next(chain(*order)), last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        """Hand out more; a worker for waiting tests has only the next one before it, for each takes long.

        After the last of these it helps the others: many of their tests wait a little, too.
        """
        if node not in self._waiters or node.shutting_down or not self.workqueue:
            super()._reschedule(node)
        elif self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)
