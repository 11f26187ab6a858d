"""What keepalivectl measure --write puts into config.d is what the daemon's next warning says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from socket import AF_INET, create_server

from tests.kernel.measure.stage import LONG, PORT, URGENT, listening, token_of
from tests.kernel.measure.truth import DELAY
from tests.support.chain import Chain, Device
from tests.support.patience import SOON
from tests.support.processes import CTL, ENABLE, TALKER, Home, arming
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
    """Over two firewalls in a row, of which the map shows each with its own timeout."""
    home = Home(tmp_path / "home", CONFIGURATION)
    with Chain(Device("drop", 2 * TIMEOUT), Device("drop", TIMEOUT)) as chain, home.daemon(chain.client) as daemon:
        with listening(chain) as token:
            command = (*CTL, "measure", f"{chain.address}:{PORT}", "--token", token, "--where", "--write")
            options = ("--shortest", "6s", "--longest", "32s", f"--config={home.file}")
            with chain.client.running(*command, *options) as measuring:
                found, told = measuring.communicate(timeout=LONG)
        assert "puts it in force" in told
        hops = [rf"hop {number} \(10\.98\.{number - 1}\.2\) forgets after \d+s \(drop\)" for number in (1, 2)]
        assert re.search(" -- ".join(["this host", *hops, chain.address]), found), found
        daemon.reload(CONFIGURATION)
        daemon.expect("reloaded")
        with chain.server.inside(lambda: create_server((chain.address, 0))) as listener:
            listener.settimeout(SOON)
            talker = (sys.executable, "-S", TALKER, chain.address, str(listener.getsockname()[1]))
            with chain.client.running(*talker), listener.accept()[0]:
                warning = daemon.expect("bare", KEEPALIVE_PATH=f"to {chain.address}")
    assert re.search(r"measured 20\d\d-\d\d-\d\d", warning["MESSAGE"])


def test_a_daemon_that_arms_all_it_may_spoils_no_measurement(tmp_path: Path) -> None:
    """Its probes would keep the path from forgetting what is measured, were they armed while they are quiet."""
    home = Home(tmp_path / "home", arming(ENABLE))
    with Rig("drop", TIMEOUT) as rig, home.daemon(rig.client):
        with rig.server.running(*URGENT, *CTL, "measure", "--listen", PORT) as listener:
            command = (*URGENT, *CTL, "measure", f"{SERVER[AF_INET]}:{PORT}", "--token", token_of(listener), "--json")
            with rig.client.running(*command, "--shortest", "6s", "--longest", "30s") as measuring:
                found, complaints = measuring.communicate(timeout=LONG)
        assert found, complaints
        assert json.loads(found)["survived"] < TIMEOUT + DELAY
        assert json.loads(found)["forgotten"] > TIMEOUT - DELAY
