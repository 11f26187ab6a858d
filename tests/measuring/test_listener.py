"""A listener that holds as many connections as it can frees those that were tested, and says so if none was."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from socket import AF_INET, create_connection, create_server

import pytest

from keepaliveD.measuring import greeting
from keepaliveD.measuring import listener as module
from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.greeting import AFTERWARDS, Request
from keepaliveD.measuring.listener import Listener
from keepaliveD.measuring.opening import Target, open_connection
from keepaliveD.model.errors import Unreachable
from tests.kernel.measure.stage import token_of
from tests.measuring.test_greeting import reserved
from tests.programs.stage import awaited
from tests.support.patience import SOON
from tests.support.processes import CTL

MOST = 3
HOUR = 3600.0  # seconds
FULL = "the listener holds as many connections as it can; try again in some minutes"


def served(work: Callable[[Target], Awaitable[None]]) -> list[str]:
    """What a listener reports while this is done."""
    said: list[str] = []

    async def serve() -> None:
        server, stop = create_server(("127.0.0.1", 0)), asyncio.Event()
        target = Target("listener", AF_INET, server.getsockname(), "secret")
        serving = asyncio.create_task(Listener(server, "secret", said.append).serve(SOON, stop))
        try:
            await work(target)
        finally:
            stop.set()
            await serving

    asyncio.run(serve())
    return said


async def held(target: Target, quiet: float, count: int) -> list[Connection]:
    """Connections that the listener serves, to be left quiet so long."""
    request = Request(round((quiet + AFTERWARDS) * 1000))
    return [await open_connection(target, request) for _ in range(count)]


def closed(connections: list[Connection]) -> None:
    for each in connections:
        each.close()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", MOST)
    monkeypatch.setattr(module, "PATIENCE", SOON)


def test_what_was_tested_makes_room_for_another_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """One measurement of 723 tests kept all others away for six minutes. The test that is over longest is freed."""
    monkeypatch.setattr(module, "TESTED", 0.0)

    async def work(target: Target) -> None:
        going_on = await held(target, HOUR, MOST - 1)
        tested = await held(target, 0.0, 1)
        fresh = await held(target, HOUR, 1)
        assert [each.ended() for each in (*going_on, *tested, *fresh)] == [False, False, True, False]
        closed([*going_on, *tested, *fresh])

    assert served(work) == []


def test_a_connection_is_looked_at_when_something_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of quiet ones were looked at each second."""
    monkeypatch.setattr(module, "LOOK", 0.01)
    looks: list[Connection] = []
    ended = Connection.ended

    def look(connection: Connection) -> bool:
        looks.append(connection)
        return ended(connection)

    monkeypatch.setattr(Connection, "ended", look)

    async def work(target: Target) -> None:
        (quiet,) = await held(target, HOUR, 1)
        await asyncio.sleep(0.1)
        looks.clear()
        await asyncio.sleep(0.3)
        assert looks == []
        quiet.close()
        while not looks:
            await asyncio.sleep(0.01)

    served(work)


def test_a_listener_that_is_full_of_tests_says_so_at_both_ends() -> None:
    """It said "does keepalivectl measure --listen run there?"."""

    async def work(target: Target) -> None:
        going_on = await held(target, HOUR, MOST)
        for _ in range(2):
            with pytest.raises(Unreachable, match=FULL):
                await held(target, HOUR, 1)
        assert not any(each.ended() for each in going_on)
        closed(going_on)

    assert served(work) == [
        f"holds {MOST} connections, as many as it can: closed a new one of 127.0.0.1; listen on another port for more"
    ]


def test_a_listener_without_descriptors_says_so_at_both_ends() -> None:
    limited = ["sh", "-c", 'ulimit -n 20; exec "$@"', "sh", *CTL, "measure", "--listen"]
    with (
        reserved() as port,
        subprocess.Popen([*limited, str(port)], stderr=subprocess.PIPE, text=True) as process,
        ExitStack() as stack,
    ):
        try:
            token_of(process)
            near = [stack.enter_context(create_connection(("127.0.0.1", port), SOON)) for _ in range(25)]
            assert process.stderr
            words = "as many as it can: raise the limit of descriptors (ulimit -n)"
            assert words in awaited(process.stderr, words)
            assert greeting.FULL in {each.recv(greeting.LONGEST_LINE) for each in near}
        finally:
            process.terminate()
