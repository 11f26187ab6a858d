"""What keepalivectl measure --write puts into config.d is what the daemon's next warning says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from socket import AF_INET

from tests.kernel.measure.stage import LONG, PORT, token_of
from tests.kernel.measure.truth import DELAY
from tests.support.processes import CTL, ENABLE, Home, arming, program
from tests.support.rig import SERVER, Rig

TIMEOUT = 12  # seconds
CONFIGURATION = """
    [keepalive]
    apply = false
    [watch]
    interval = "0.25s"
    warn_before = "6s"
    namespaces = "own"
"""


def test_the_next_warning_says_that_the_timeout_was_measured_and_when(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", CONFIGURATION)
    with Rig("drop", 12) as rig, home.daemon(rig.client) as daemon:
        with rig.server.running(*CTL, "measure", "--listen", PORT) as listener:
            command = (*CTL, "measure", f"{SERVER[AF_INET]}:{PORT}", "--token", token_of(listener), "--write")
            options = ("--shortest", "6s", "--longest", "30s", f"--config={home.file}")
            with rig.client.running(*command, *options) as measuring:
                _, told = measuring.communicate(timeout=LONG)
        assert "puts it in force" in told
        daemon.reload(CONFIGURATION)
        daemon.expect("reloaded")
        with program(rig):
            warning = daemon.expect("bare", KEEPALIVE_PATH=f"to {SERVER[AF_INET]}")
    assert re.search(r"measured 20\d\d-\d\d-\d\d", warning["MESSAGE"])


def test_a_daemon_that_arms_all_it_may_spoils_no_measurement(tmp_path: Path) -> None:
    """Its probes would keep the path from forgetting what is measured, were they armed while they are quiet."""
    home = Home(tmp_path / "home", arming(ENABLE))
    with Rig("drop", TIMEOUT) as rig, home.daemon(rig.client):
        with rig.server.running(*CTL, "measure", "--listen", PORT) as listener:
            command = (*CTL, "measure", f"{SERVER[AF_INET]}:{PORT}", "--token", token_of(listener), "--json")
            with rig.client.running(*command, "--shortest", "6s", "--longest", "30s") as measuring:
                found, complaints = measuring.communicate(timeout=LONG)
        assert found, complaints
        assert json.loads(found)["survived"] < TIMEOUT + DELAY
        assert json.loads(found)["forgotten"] > TIMEOUT - DELAY
