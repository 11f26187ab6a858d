"""keepalivectl measure to services that close connections on which nobody logs in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from socket import AF_INET

import pytest

from tests.programs import openssh, postgresql
from tests.programs.conftest import missing
from tests.programs.stage import USER
from tests.support.patience import STALL
from tests.support.processes import CTL
from tests.support.rig import SERVER, Rig
from tests.support.unprivileged import reachable_directory

GRACE = 12  # seconds; by default 120 (sshd) and 60 (PostgreSQL)
LATE = STALL  # seconds by which a busy machine may be late

Service = Callable[[Path, Rig], AbstractContextManager[object]]

SERVICES: dict[str, tuple[int, Service]] = {
    "sshd": (openssh.PORT, lambda place, rig: openssh.OpenSSH(place).served(rig, f"LoginGraceTime={GRACE}")),
    "PostgreSQL": (
        postgresql.PORT,
        lambda place, rig: postgresql.PostgreSQL(place).served(rig, authentication_timeout=f"{GRACE}s"),
    ),
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_closes_first_is_named_and_no_timeout_is_invented(name: str) -> None:
    if reason := missing():
        pytest.skip(reason)
    port, served = SERVICES[name]
    with reachable_directory() as directory, Rig("drop", 60) as rig:
        shutil.chown(directory, USER)
        with served(directory, rig):
            target = f"{SERVER[AF_INET]}:{port}"
            done = rig.client.run(*CTL, "measure", target, "--json", "--shortest", "4s", "--longest", "40s")
    found = json.loads(done.stdout)
    assert GRACE - 1 <= found["server_closes"] <= GRACE + LATE
    assert (found["forgotten"], found["path"]) == (None, None)
    assert 4 <= found["survived"] <= GRACE + LATE
