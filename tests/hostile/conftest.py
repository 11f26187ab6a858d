"""What tests of attacks need, and what they must leave behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import _leaves_nothing_behind, pytest_collection_modifyitems, pytest_configure
from tests.support.loopback import Host

__all__ = ["_leaves_nothing_behind", "pytest_collection_modifyitems", "pytest_configure"]  # of these tests too


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """The host that is attacked; the daemon is told that its connections are soon forgotten."""
    with Host(tmp_path) as host:
        yield host
