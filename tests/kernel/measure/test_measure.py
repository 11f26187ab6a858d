"""keepalivectl measure over real firewalls that forget: all at the same time, for each waits most of the time."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest

from tests.kernel.measure.stage import LONG, PORT, Found, listening, measure
from tests.support.chain import Chain, Device
from tests.support.patience import SOON, STALL

TIMEOUT = 20  # seconds
LATE = 2.0  # seconds by which a busy machine may be late
QUICK = ("--shortest", "8s", "--longest", "40s")
SERVER = str(Path(__file__).parents[2] / "support/quiet_server.py")
PROXY = str(Path(__file__).parents[2] / "support/tcp_proxy.py")
SERVICE = "7000"
QUIET_AT_A_TIME = 8  # connections to a service, beside one that is kept alive
FRESH = 1  # that shows whether the path is up, and is closed at once

Story = Callable[[ExitStack], Found]


def listened(*devices: Device) -> Story:
    """A measurement with a listener at the far end."""

    def tell(stack: ExitStack) -> Found:
        chain = stack.enter_context(Chain(*devices))
        return measure(chain, "--token", stack.enter_context(listening(chain)), *QUICK)

    return tell


def outage(stack: ExitStack) -> Found:
    """Nothing gets through while tests that are shorter than the timeout are made."""
    chain = stack.enter_context(Chain(Device("drop", TIMEOUT)))

    def interrupt(_: Popen[str]) -> None:
        time.sleep(13)  # silences of 13 s to 18 s end in the outage
        with chain.outage(0, "prerouting"):
            time.sleep(5)

    return measure(chain, "--token", stack.enter_context(listening(chain)), *QUICK, during=interrupt)


def stopped(stack: ExitStack) -> Found:
    """The program stands still (SIGSTOP) while the path forgets connections, and probes of the peer arrive."""
    chain = stack.enter_context(Chain(Device("drop", TIMEOUT)))

    def stop(measuring: Popen[str]) -> None:
        time.sleep(13)
        measuring.send_signal(signal.SIGSTOP)
        time.sleep(12)
        measuring.send_signal(signal.SIGCONT)

    return measure(chain, "--token", stack.enter_context(listening(chain)), *QUICK, during=stop)


def ctrl_c(measuring: Popen[str]) -> None:
    """Come when the path has forgotten connections that are still to be tested."""
    time.sleep(TIMEOUT + 3)
    measuring.send_signal(signal.SIGINT)


def foreign(device: Device, *patience: str, during: Callable[[Popen[str]], None] | None = None) -> Story:
    """A measurement to a service that knows nothing of it; the result also says what that holds, and held at most."""

    def tell(stack: ExitStack) -> Found:
        chain = stack.enter_context(Chain(device))
        service = stack.enter_context(
            chain.server.running(sys.executable, "-S", SERVER, chain.address, SERVICE, *patience)
        )
        assert service.stdin
        assert service.stdout
        assert service.stdout.readline() == "ready\n"
        found = measure(chain, *QUICK, port=SERVICE, during=during)
        deadline = time.monotonic() + SOON
        while True:
            print(file=service.stdin, flush=True)
            held, most = map(int, service.stdout.readline().split())
            if not held or time.monotonic() > deadline:
                return found | {"held": held, "most": most}
            time.sleep(0.5)

    return tell


def proxied(stack: ExitStack) -> Found:
    """A proxy on the first router answers probes of both ends; the device behind that forgets."""
    chain = stack.enter_context(Chain(Device("none"), Device("drop", TIMEOUT)))
    token = stack.enter_context(listening(chain))
    near = "10.98.0.2"
    command = (sys.executable, "-S", PROXY, near, PORT, chain.address, PORT)
    proxy = stack.enter_context(chain.devices[0].running(*command))
    assert proxy.stdout
    assert proxy.stdout.readline() == "ready\n"
    return measure(chain, "--token", token, *QUICK, to=near)


STORIES: dict[str, Story] = {
    "drop": listened(Device("drop", TIMEOUT)),
    "reject": listened(Device("reject", TIMEOUT)),
    "masquerade": listened(Device("masquerade", TIMEOUT)),
    "loose": listened(Device("loose", TIMEOUT)),
    "only outbound refreshes": listened(Device("outbound", TIMEOUT)),
    "only data refreshes": listened(Device("data", TIMEOUT)),
    "two in a row": listened(Device("drop", 30), Device("reject", TIMEOUT)),
    "two by port": listened(Device("by port", 32, TIMEOUT)),
    "two by every second port": listened(Device("by port", 32, TIMEOUT, "tcp PORT & 1 == 1")),
    "two by hash": listened(Device("by port", 32, TIMEOUT, "jhash ip ADDR . tcp PORT mod 2 seed 0x5 == 0")),
    "outage": outage,
    "stopped": stopped,
    "foreign": foreign(Device("drop", TIMEOUT)),
    "foreign, closes first": foreign(Device("drop", 60), "20"),
    "proxy, behind it drop": proxied,
    "foreign, Ctrl-C": foreign(Device("drop", TIMEOUT), during=ctrl_c),
}
"""What is on the path, or happens there."""


def measured() -> dict[str, Found]:
    """What was found of each path."""
    with ExitStack() as stack, ThreadPoolExecutor(len(STORIES)) as threads:
        told = {name: threads.submit(story, stack.enter_context(ExitStack())) for name, story in STORIES.items()}
        return {name: each.result(LONG) for name, each in told.items()}


@pytest.fixture(scope="module")
def found() -> dict[str, Found]:
    """The same, once for all tests."""
    return measured()


@pytest.mark.parametrize("name", [name for name in STORIES if name.partition(", ")[2] == ""])
def test_the_bracket_holds_the_timeout(found: dict[str, Found], name: str) -> None:
    assert found[name]["survived"] <= TIMEOUT + LATE
    assert found[name]["forgotten"] >= TIMEOUT - 0.1
    assert found[name]["forgotten"] / found[name]["survived"] < 1.25


def test_it_says_how_a_connection_is_forgotten(found: dict[str, Found]) -> None:
    hows = {name: each["how"] for name, each in found.items() if each["forgotten"]}
    assert hows == dict.fromkeys(hows, "silence") | {"reject": "reset", "two in a row": "reset"}


def test_a_firewall_that_resets_is_told_from_the_peer(found: dict[str, Found]) -> None:
    assert found["reject"]["reset_by"] == "device"


def test_a_loose_firewall_is_seen_by_the_peers_probes(found: dict[str, Found]) -> None:
    revived = {name for name, each in found.items() if each["revived_by"]}
    assert revived == {"loose"} | ({"only outbound refreshes"} & revived)
    assert found["loose"]["revived_by"] == "this host"


def test_it_says_whether_keepalive_helps(found: dict[str, Found]) -> None:
    helps = {name: each["keepalive_helps"] for name, each in found.items() if each["forgotten"]}
    assert helps == dict.fromkeys(helps, True) | {"only data refreshes": False}


def test_a_proxy_that_answers_for_the_peer_is_seen(found: dict[str, Found]) -> None:
    """It was a firewall that forgets within the shortest silence, and against which keepalive helps."""
    proxy = found["proxy, behind it drop"]
    assert [proxy[key] for key in ("survived", "forgotten", "revived_by", "keepalive_helps")] == [None] * 4
    assert proxy["unheard"] == pytest.approx(8.0, abs=LATE)


def test_several_devices_are_seen(found: dict[str, Found]) -> None:
    several = {name for name, each in found.items() if each["several_devices"]}
    assert several == {"two by port", "two by every second port", "two by hash"}


def test_an_outage_is_seen_and_not_taken_for_the_timeout(found: dict[str, Found]) -> None:
    assert {name for name, each in found.items() if each["outages"]} >= {"outage"}


def test_a_service_that_closes_first_is_named(found: dict[str, Found]) -> None:
    closes = found["foreign, closes first"]
    assert closes["forgotten"] is None
    assert 20 - LATE <= closes["server_closes"] <= 20 + STALL
    assert closes["path"] is None


def test_a_service_is_left_without_dead_sockets(found: dict[str, Found]) -> None:
    assert {name: each["held"] for name, each in found.items() if each.get("held")} == {}
    assert found["foreign"]["left_open"] == 0


def test_a_service_is_not_filled_up(found: dict[str, Found]) -> None:
    """It held each round's forgotten connections to the end, 44 of 8 "at a time", and refused its users."""
    most = {name: each["most"] for name, each in found.items() if name.startswith("foreign")}
    assert max(most.values()) <= QUIET_AT_A_TIME + 1 + FRESH, most


def test_a_path_is_there_to_paste(found: dict[str, Found]) -> None:
    assert "measured = 20" in found["drop"]["path"]
    assert 'networks = ["10.98.1.2/32"]' in found["drop"]["path"]
