"""A connection that hangs: its path forgot it sooner than anybody assumed, and its data is lost."""

from __future__ import annotations

import time
from pathlib import Path
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPIDLE

import pytest

from tests.support.processes import CTL, Home, next_line, program, sockets, tell
from tests.support.rig import Rig

LONG_ENOUGH = 120  # seconds in which what is not answered for 20 is seen


@pytest.mark.parametrize("engine", ["bpf", "netlink"])
def test_a_connection_whose_data_is_not_answered_is_at_risk_long_before_the_guess_is_over(
    engine: str, tmp_path: Path
) -> None:
    """The program hangs; what monitors the host learns of it."""
    own = f'[watch]\nengine = "{engine}"\nnamespaces = "own"\n'  # in others, tests lock sockets
    home = Home(tmp_path, own)  # no [[path]]: its timeout of 4 minutes is only assumed
    with Rig("drop", timeout=2) as rig, program(rig) as client:
        check = (*CTL, "sockets", "--check", f"--namespace={rig.client.inode}", f"--config={home.file}")
        client.far.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 100)
        client.far.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)

        def ours() -> dict[str, object]:
            port = client.endpoints["KEEPALIVE_LOCAL_PORT"]
            here = [each for each in sockets(rig.client, home) if each["netns"] == rig.client.inode]
            (one,) = [each for each in here if each["local"]["port"] == port]
            return one

        time.sleep(3)  # the firewall's patience is over
        tell(client.process, "word")
        before = ours()
        assert (before["verdict"], before["due"]) == ("safe", "retransmit")
        assert rig.client.run(*check).returncode == 0
        assert next_line(client.process) == "silence\n"
        until = time.monotonic() + LONG_ENOUGH
        while (now := ours())["verdict"] == "safe" and time.monotonic() < until:
            time.sleep(1)
        assert (now["verdict"], now["confirmed"], now["due"]) == ("late", False, "end")
        assert rig.client.run(*check).returncode == 1
