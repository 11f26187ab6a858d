"""Each kind of torture, shortened: the whole is `script/torture`, and its last figures are in docs/reliability.md."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.rig import DIE_WITH_US
from tests.torture.kind import Kind
from tests.torture.kinds import KINDS


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whatever_is_done_to_the_daemon_it_does_no_harm(kind: Kind) -> None:
    """A failure names its seed: `script/torture KIND --seed SEED` is that case alone.

    Not in this process: all its memory would be copied for each of thousands that are forked.
    """
    command = (*DIE_WITH_US, sys.executable, "-m", "tests.torture", "--short", kind.name)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
