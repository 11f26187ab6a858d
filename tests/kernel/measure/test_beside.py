"""A measurement beside a daemon that watches all connections."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, create_server

import pytest

from keepaliveD.cli.asking.asking import ask
from tests.kernel.conftest import missing
from tests.kernel.measure.stage import LONG, PORT, token_of
from tests.kernel.test_own_firewall import FORGETS
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL, WARNING_TIME, Home, configuration, program
from tests.support.rig import SERVER, Rig

FORGETFUL = 3  # seconds without a packet after which the firewall forgets


@pytest.fixture
def rig() -> Iterator[Rig]:
    if reason := missing():
        pytest.skip(reason)
    with Rig(timeout=600) as rig:
        yield rig


def test_the_daemon_does_not_warn_of_connections_that_are_quiet_on_purpose(rig: Rig, tmp_path: Path) -> None:
    """It warns of all others, counts those, too, and lists them."""
    home = Home(tmp_path, configuration(timeout=WARNING_TIME + 2))
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(home.daemon(rig.client))
        listener = stack.enter_context(rig.server.inside(lambda: create_server((SERVER[AF_INET], 0))))
        listener.settimeout(SOON)
        port = listener.getsockname()[1]
        measuring = (*CTL, "measure", f"{SERVER[AF_INET]}:{port}", "--connections=2", "--shortest=1min", "--longest=1h")
        stack.enter_context(rig.client.running(*measuring))
        _ends = [stack.enter_context(listener.accept()[0]) for _ in range(2)]
        with program(rig) as other:
            # it has been quiet for a shorter time; a busy machine may look only when the path has forgotten
            assert daemon.heard("bare", "cut", within=SOON, **other.endpoints)
            warned = daemon.heard("bare", "late", "cut")
        assert [entry for entry in warned if entry["KEEPALIVE_REMOTE_PORT"] == port] == []
        daemon.stop()


@pytest.mark.parametrize("engine", ["bpf", "netlink"])
def test_the_ends_of_what_measures_are_counted_apart(engine: str, tmp_path: Path) -> None:
    """Neither the status nor the log has them, and those of a service that is measured to are its own."""
    if engine == "bpf" and (reason := missing()):
        pytest.skip(reason)
    home = Home(tmp_path, ENDS.replace("ENGINE", engine))
    known = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with Rig("reject", FORGETFUL) as rig, home.daemon(rig.client, through=known) as daemon:
        with rig.server.running(*CTL, "measure", "--listen", PORT) as listener:
            command = (*known, *CTL, "measure", f"{SERVER[AF_INET]}:{PORT}", "--token", token_of(listener))
            with rig.client.running(*command, "--shortest=1s", "--longest=6s", "--connections=8") as measuring:
                wait_for(lambda: ask(tmp_path / "control", "ListDeaths", patience=SOON)["measured"])
                measuring.send_signal(signal.SIGINT)
                measuring.communicate(timeout=LONG)
        rig.firewall.set_sysctl(FORGETS, 600)  # from now on: a busy machine would be too slow for it
        with program(rig) as other:  # its end is seen after theirs
            ends = other.endpoints
            assert other.speak() == "answered"
            assert rig.firewall.run("conntrack", "-F").returncode == 0
            assert other.speak() == "ECONNRESET"
        daemon.expect("died", **ends)
        answer, status = (ask(tmp_path / "control", what, patience=SOON) for what in ("ListDeaths", "Status"))
        assert answer["measured"] > 0
        assert sum(each["count"] for each in answer["causes"]) == 1, answer
        assert [each["remote"]["port"] for each in answer["deaths"]] == [ends["KEEPALIVE_REMOTE_PORT"]]
        assert len(status["ends"]) == 1
        daemon.stop()


ENDS = """
[keepalive]
apply = false
[watch]
engine = "ENGINE"
namespaces = "own"
interval = "500ms"
ignore = []
[autopsy]
log = "all"
"""
