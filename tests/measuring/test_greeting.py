"""Both ends of a measurement agree before a connection is left quiet; nobody is served without the token."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from socket import SO_REUSEADDR, SOL_SOCKET, create_connection, create_server, socket
from threading import Event
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepaliveD.cli.ctl import main
from keepaliveD.measuring import listener
from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.greeting import (
    AGREED,
    LONGEST_LINE,
    MOST,
    Request,
    challenge,
    is_challenge,
    new_token,
    read_request,
)
from keepaliveD.measuring.greeting import request_line as line_of
from keepaliveD.measuring.listener import MOST_STRANGERS, Listener
from tests.kernel.measure.stage import token_of
from tests.programs.stage import awaited
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL
from tests.support.rig import OWN_NETWORK

NUMBERS = st.integers(0, MOST)


@given(st.builds(Request, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_a_listener_reads_what_the_other_end_asks_for(request: Request) -> None:
    nonce = challenge()
    assert is_challenge(nonce)
    line = line_of(request, nonce, "secret")
    assert len(line) <= LONGEST_LINE
    assert read_request(line, nonce, "secret") == request


def test_another_token_or_another_challenge_is_refused() -> None:
    nonce = challenge()
    line = line_of(Request(1000), nonce, "secret")
    assert read_request(line, nonce, "another") is None
    assert read_request(line, challenge(), "secret") is None
    assert read_request(line.replace(b"1000", b"2000"), nonce, "secret") is None


def test_a_token_is_never_taken_for_an_option() -> None:
    """One in 64 began with a hyphen."""
    assert all(new_token().isalnum() for _ in range(1000))


@given(st.binary(max_size=LONGEST_LINE))
def test_no_line_of_a_stranger_is_taken_for_a_request(line: bytes) -> None:
    assert read_request(line, challenge(), "secret") is None


@contextmanager
def listening(patience: float = SOON) -> Iterator[tuple[int, str, subprocess.Popen[str]]]:
    """A listener on this machine, which waits so many seconds for a proof: its port, its token, and its process."""
    waits = f"from keepaliveD.measuring import listener; listener.PATIENCE = {patience}"
    command = [sys.executable, "-c", f"{waits}; from keepaliveD.__main__ import ctl; ctl()", "measure", "--listen"]
    with reserved() as port, subprocess.Popen([*command, str(port)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield port, token_of(process), process
        finally:
            process.terminate()


@contextmanager
def reserved() -> Iterator[int]:
    """A port that nobody is given; who asks for it may listen there, as two that share an address may bind it."""
    with socket() as bound:
        bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def refused(*options: str) -> tuple[int, str]:
    """Exit status and error of a measurement that cannot begin."""
    done = subprocess.run([*CTL, "measure", *options], capture_output=True, text=True, timeout=SOON, check=False)
    return done.returncode, done.stderr.splitlines()[-1]


def test_the_wrong_token_and_none_at_all_are_errors() -> None:
    with listening() as (port, _, _):
        status, error = refused(f"127.0.0.1:{port}", "--token", "wrong")
        assert status == 77
        assert "refuses the token; use the one that keepalivectl measure --listen shows" in error
        status, error = refused(f"127.0.0.1:{port}")
        assert status == 64
        assert "it is a keepalivectl measure --listen; give the --token that it shows" in error


def test_a_listener_that_ends_early_does_not_refuse_the_token() -> None:
    with create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOON)
        command = [*CTL, "measure", f"127.0.0.1:{listener.getsockname()[1]}", "--token", "any"]
        with (
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
            listener.accept()[0] as connection,
        ):
            connection.sendall(challenge())
            connection.recv(LONGEST_LINE)
            listener.close()
            connection.close()
            assert process.stderr
            error = process.stderr.read().splitlines()[-1]
    assert process.returncode == 68
    assert error.endswith("Connection refused")


def test_a_listener_that_ends_is_not_taken_for_a_path_that_forgets() -> None:
    """What the first round has shown stays known."""
    with listening() as (port, token, listener):
        command = [*CTL, "measure", f"127.0.0.1:{port}", "--token", token, "--shortest=1s", "--longest=3s"]
        measuring = [*command, "--connections=8", "--json"]
        with subprocess.Popen(measuring, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            awaited(process.stderr, "round 2")
            listener.terminate()
            told, complaints = process.communicate(timeout=SOON)
    found = json.loads(told)
    assert process.returncode == 68, complaints
    assert (found["forgotten"], found["path"], found["keepalive_helps"]) == (None, None, None)
    assert found["survived"] >= 3
    assert "the listener ended at " in complaints.splitlines()[-1]
    assert found["ended_early"] in complaints.splitlines()[-1]


@pytest.mark.parametrize(
    ("greeting", "remedy"),
    [
        (b"220 mail.example.net ESMTP\n", "it is no keepalivectl measure --listen; leave out --token"),
        (b"keepalive-measure 2 abc\n", "another version of keepalivectl listens there; use the same one at both ends"),
    ],
)
def test_a_token_for_another_service_is_an_error(greeting: bytes, remedy: str) -> None:
    """Of a listener of another version it said to leave out the token."""
    with create_server(("127.0.0.1", 0)) as service:
        service.settimeout(SOON)
        command = [*CTL, "measure", f"127.0.0.1:{service.getsockname()[1]}", "--token", "any"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, service.accept()[0] as connection:
            connection.sendall(greeting)
            assert process.stderr
            error = process.stderr.read().splitlines()[-1]
    assert process.returncode == 64
    assert remedy in error


def test_a_stranger_gets_nothing_but_a_challenge() -> None:
    with listening() as (port, _, _), create_connection(("127.0.0.1", port)) as stranger:
        stranger.settimeout(SOON)
        assert is_challenge(stranger.recv(LONGEST_LINE))
        stranger.sendall(b"5000 0 0 0 0 none\n")
        assert everything(stranger) == b""


HELD_UP, DUE = 1000.0, 1001.0  # seconds
MANY = 200  # silent connections
CROWD = (f"{OWN_NETWORK}.9", 0)  # where they come from


def agreed(connection: socket, nonce: bytes, token: str) -> bool:
    """Whether the listener serves a connection that proves that it has the token."""
    connection.settimeout(SOON)
    connection.sendall(line_of(Request(1000), nonce, token))
    return connection.recv(len(AGREED)) == AGREED


@pytest.mark.parametrize("source", [CROWD, ("127.0.0.1", 0)])
def test_silent_connections_keep_nobody_out_who_has_the_token(source: tuple[str, int]) -> None:
    with listening() as (port, token, _), ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(create_connection(("127.0.0.1", port), SOON, source))
        honest = stack.enter_context(create_connection(("127.0.0.1", port), SOON))
        nonce = honest.recv(LONGEST_LINE)
        assert is_challenge(nonce)
        assert agreed(honest, nonce, token)


def test_silent_connections_of_one_address_take_the_place_of_no_other_address() -> None:
    with listening() as (port, token, _), ExitStack() as stack:
        honest = stack.enter_context(create_connection(("127.0.0.1", port), SOON))
        nonce = honest.recv(LONGEST_LINE)
        for _ in range(MOST_STRANGERS + 1):
            stack.enter_context(create_connection(("127.0.0.1", port), SOON, CROWD))
        assert agreed(honest, nonce, token)


def test_devices_are_kept_awake_at_once_although_the_daemon_is_slow_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it took 10 s; a device that was to stay awake had forgotten the connection by then."""
    monkeypatch.setattr(listener, "PATIENCE", SOON)

    def connect(port: int) -> bool:
        with create_connection((f"{OWN_NETWORK}.1", port), timeout=SOON) as sock:
            nonce = sock.recv(LONGEST_LINE)
            sock.sendall(line_of(Request(60_000, 0, 9, 1000, 60_000), nonce, "secret"))
            assert sock.recv(1) == AGREED
            connection = Connection(sock)
            connection.restart()
            wait_for(connection.heard)
            return connection.heard()

    async def serve() -> bool:
        async def slowly(_: Connection) -> None:
            await asyncio.sleep(2 * SOON)

        server, stop = create_server((f"{OWN_NETWORK}.1", 0)), asyncio.Event()
        serving = asyncio.create_task(Listener(server, "secret", print, slowly).serve(2 * SOON, stop))
        try:
            return await asyncio.to_thread(connect, server.getsockname()[1])
        finally:
            stop.set()
            await serving

    assert asyncio.run(serve()), "no probe has come"


def test_the_time_of_a_probe_counts_from_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever got the answer takes a fresh one, once the probe is due, for a proof that it has left."""
    probed = Event()
    held_up = [0.0]

    class Late(Connection):
        """What a busy machine makes of it: the program stands still once it has answered."""

        def __init__(self, sock: socket) -> None:
            held_up[0] = HELD_UP
            super().__init__(sock)

        def probe(self) -> None:
            probed.set()

    monkeypatch.setattr(listener, "PATIENCE", SOON)
    monkeypatch.setattr(listener, "Connection", Late)
    monkeypatch.setattr(listener, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + held_up[0]))

    def connect(port: int) -> bool:
        with create_connection(("127.0.0.1", port), SOON) as sock:
            sock.sendall(line_of(Request(0, int(1000 * DUE)), sock.recv(LONGEST_LINE), "secret"))
            assert sock.recv(1) == AGREED
            return probed.wait(SOON)

    async def serve() -> bool:
        server, stop = create_server(("127.0.0.1", 0)), asyncio.Event()
        serving = asyncio.create_task(Listener(server, "secret", print).serve(2 * SOON, stop))
        try:
            return await asyncio.to_thread(connect, server.getsockname()[1])
        finally:
            stop.set()
            await serving

    assert asyncio.run(serve()), "it counts from after the answer"


def test_a_connection_that_stays_silent_is_closed() -> None:
    with listening(listener.PATIENCE) as (port, _, _), create_connection(("127.0.0.1", port), SOON) as stranger:
        assert everything(stranger).count(b"\n") == 1


def test_a_service_that_closes_at_once_is_an_error_in_plain_words() -> None:
    with create_server(("127.0.0.1", 0)) as service:
        service.settimeout(SOON)
        target = f"127.0.0.1:{service.getsockname()[1]}"
        for options, words in (
            ((), "it closes a connection at once, so that no silence"),
            (("--token", "x"), "run there?"),
        ):
            with subprocess.Popen([*CTL, "measure", target, *options], stderr=subprocess.PIPE, text=True) as process:
                service.accept()[0].close()
                assert process.stderr
                error = process.stderr.read().splitlines()[-1]
            assert process.returncode == 68
            assert words in error


def everything(connection: socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(LONGEST_LINE), b""))


@pytest.mark.parametrize("port", ["0", "65536", "ssh", ""])
def test_a_port_that_is_none_is_a_mistake(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["measure", "--listen", port])
    assert ended.value.code == 64
    assert "is not a port; write 1 to 65535" in capsys.readouterr().err
