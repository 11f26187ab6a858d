"""Tortures leave nothing behind either."""

from tests.kernel.conftest import _leaves_nothing_behind

__all__ = ["_leaves_nothing_behind"]
