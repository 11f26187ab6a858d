"""Each kind of torture, shortened: the whole is `script/torture`, and its last figures are in docs/reliability.md."""

from __future__ import annotations

import pytest

from tests.torture.kind import Kind, torture
from tests.torture.kinds import KINDS


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whatever_is_done_to_the_daemon_it_does_no_harm(kind: Kind) -> None:
    """A failure names its seed: `script/torture KIND --seed SEED` is that case alone."""
    tally = torture(kind, short=True)
    assert tally.cases
    assert not tally.failures
