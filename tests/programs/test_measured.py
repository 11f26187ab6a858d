"""keepalivectl measure to an OpenSSH server, which closes connections that do not log in."""

from __future__ import annotations

import json
import shutil
from socket import AF_INET

import pytest

from tests.programs.conftest import missing
from tests.programs.openssh import PORT, OpenSSH
from tests.programs.stage import USER
from tests.support.processes import CTL
from tests.support.rig import SERVER, Rig
from tests.support.unprivileged import reachable_directory

GRACE = 12  # seconds; 120 by default
LATE = 3.0  # seconds by which a busy machine may be late


def test_a_server_that_closes_first_is_named_and_no_timeout_is_invented() -> None:
    if reason := missing():
        pytest.skip(reason)
    with reachable_directory() as directory, Rig("drop", 60) as rig:
        shutil.chown(directory, USER)
        with OpenSSH(directory).served(rig, f"LoginGraceTime={GRACE}"):
            target = f"{SERVER[AF_INET]}:{PORT}"
            done = rig.client.run(*CTL, "measure", target, "--json", "--shortest", "4s", "--longest", "40s")
    found = json.loads(done.stdout)
    assert GRACE - 1 <= found["server_closes"] <= GRACE + LATE
    assert (found["forgotten"], found["path"]) == (None, None)
    assert 4 <= found["survived"] <= GRACE + LATE
