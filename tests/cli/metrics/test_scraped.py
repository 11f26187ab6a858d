"""What serves metrics by HTTP: the real program, and clients that are slow, silent, malformed, or many."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from keepaliveD.cli.metrics.scraped import LONGEST, MOST_CLIENTS
from keepaliveD.cli.starting import how_to_start
from tests.cli.metrics.test_metrics import answering, parsed
from tests.support.patience import SOON
from tests.support.processes import CTL
from tests.support.rig import OWN_NETWORK

pytestmark = pytest.mark.long  # each starts the program
HOST = f"{OWN_NETWORK}.1"
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execvp(sys.argv[2], sys.argv[2:])
"""
# with so many seconds for whoever asks, and for the daemon that is asked
PATIENT = (
    *(sys.executable, "-c"),
    "from keepaliveD.cli.asking import asking\nfrom keepaliveD.cli.metrics import scraped\n"
    f"asking.ask.__defaults__, scraped.PATIENCE = (None, {SOON}), {SOON}\n"
    "from keepaliveD.__main__ import ctl\nctl()",
)


@dataclass
class Exporter:
    """A running keepalivectl metrics --listen."""

    process: subprocess.Popen[str]
    address: tuple[str, int] | str

    def connect(self) -> socket.socket:
        """A connection to it, as soon as it listens."""
        end = time.monotonic() + SOON
        while True:
            its = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
            its.settimeout(SOON)
            try:
                its.connect(self.address)
            except OSError:
                its.close()
                assert time.monotonic() < end
                assert self.process.poll() is None, self.process.communicate()
                time.sleep(0.05)
            else:
                return its

    def answers(self, request: bytes = GET) -> tuple[str, dict[str, str], str]:
        """The status, the headers and the body of its answer."""
        with self.connect() as its:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # let go before all of it was sent
                its.sendall(request)
            return split(everything(its))

    def stop(self, by: signal.Signals = signal.SIGTERM) -> str:
        """End it; it must end well. Return what it has said."""
        self.process.send_signal(by)
        out, err = self.process.communicate(timeout=SOON)
        assert (self.process.returncode, out) == (0, "")
        return err


def everything(its: socket.socket) -> bytes:
    """What it is sent until it is let go."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while octets := its.recv(1 << 16):
            answer += octets
    return answer


def split(answer: bytes) -> tuple[str, dict[str, str], str]:
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return status, dict(line.split(": ", 1) for line in headers), body


@contextlib.contextmanager
def exporter(
    directory: Path, where: str, address: tuple[str, int] | str, *through: str, program: tuple[str, ...] = CTL
) -> Iterator[Exporter]:
    command = ["setpriv", "--pdeathsig", "KILL", *through, *program, "metrics", "--listen", where]
    environment = os.environ | {"RUNTIME_DIRECTORY": str(directory)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, close_fds=False
    ) as process:
        try:
            yield Exporter(process, address)
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as free:
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def serving(tmp_path: Path, port: int) -> Iterator[Exporter]:
    with answering(tmp_path), exporter(tmp_path, f"{HOST}:{port}", (HOST, port)) as running:
        yield running


def test_a_scraper_gets_what_the_daemon_answers(serving: Exporter) -> None:
    status, headers, body = serving.answers()
    assert status == "HTTP/1.1 200 OK"
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body)
    series = parsed(body)
    assert series["tcp_keepalive_up", ""] == "1"
    assert series["tcp_keepalive_connections", 'path="office",verdict="safe",keepalive="on"'] == "40"
    with urlopen(f"http://{HOST}:{serving.address[1]}/metrics?x=1", timeout=SOON) as answer:
        assert answer.read().decode().count("\n") == body.count("\n")
    assert serving.stop() == ""


def test_other_requests_are_answered_as_http_says(serving: Exporter) -> None:
    status, headers, body = serving.answers(GET.replace(b"GET", b"HEAD"))
    assert (status, body) == ("HTTP/1.1 200 OK", "")
    assert int(headers["Content-Length"]) > 1000
    assert serving.answers(b"GET / HTTP/1.0\r\n\r\n")[2] == "tcp-keepalived: metrics are at /metrics\n"
    assert serving.answers(b"GET /etc/passwd HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 404 Not Found"
    status, headers, _ = serving.answers(b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert (status, headers["Allow"]) == ("HTTP/1.1 405 Method Not Allowed", "GET, HEAD")
    for wrong in (b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\x00 /metrics HTTP/2\r\n\r\n", b"GET /a b HTTP/1.1\r\n\r\n"):
        assert serving.answers(wrong)[0] == "HTTP/1.1 400 Bad Request"
    assert serving.answers(b"GET /metrics HTTP/1.1\r\n" + b"x" * 2 * LONGEST)[0] == "", "let go"
    assert serving.stop(signal.SIGINT) == ""


def test_clients_that_never_end_their_request_are_let_go_and_shut_nobody_out(serving: Exporter) -> None:
    """However many there are: the oldest goes first, and none stays for longer than it may take."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(serving.connect()) for _ in range(3 * MOST_CLIENTS)]
        for number, its in enumerate(silent):
            with contextlib.suppress(OSError):
                its.send((b"", GET[:10], b"\xff" * 100)[number % 3])
        assert serving.answers()[0] == "HTTP/1.1 200 OK"
        assert all(everything(its) == b"" for its in silent)
    assert serving.stop() == ""


def test_clients_that_take_no_answer_cost_a_bounded_memory(serving: Exporter) -> None:
    serving.answers()
    before = resident(serving.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(10 * MOST_CLIENTS):
            its = stack.enter_context(serving.connect())
            with contextlib.suppress(OSError):
                its.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                its.send(GET * 100)
        assert serving.answers()[0] == "HTTP/1.1 200 OK"
        assert resident(serving.process.pid) < before + 16 * 1024
    assert serving.stop() == ""


def resident(pid: int) -> int:
    """KiB of memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0])


def test_without_a_daemon_that_is_what_is_told_and_said_once(tmp_path: Path, port: int) -> None:
    with exporter(tmp_path, f"{HOST}:{port}", (HOST, port)) as running:
        for _ in range(3):
            assert parsed(running.answers()[2]) == {("tcp_keepalive_up", ""): "0"}
        with answering(tmp_path):
            end = time.monotonic() + SOON
            while parsed(running.answers()[2])["tcp_keepalive_up", ""] != "1":
                assert time.monotonic() < end
        said = running.stop().splitlines()
    why = f"{tmp_path}/control: no daemon can be asked there; start it with {how_to_start(Path('/'))}"
    assert said == [f"keepalivectl metrics: {why}"]


def test_a_daemon_that_hangs_is_down_and_whoever_waits_for_it_shuts_nobody_out(tmp_path: Path, port: int) -> None:
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as hung,
        exporter(tmp_path, f"{HOST}:{port}", (HOST, port)) as running,
        contextlib.ExitStack() as stack,
    ):
        hung.bind(str(tmp_path / "control"))
        hung.listen()
        for _ in range(3 * MOST_CLIENTS):
            stack.enter_context(running.connect()).sendall(GET)
        end = time.monotonic() + SOON
        while not (body := running.answers()[2]):  # let go, after a pause of the machine
            assert time.monotonic() < end
        assert parsed(body) == {("tcp_keepalive_up", ""): "0"}
        assert running.stop() == f"keepalivectl metrics: {tmp_path}/control: the daemon does not answer: timed out\n"


def test_a_client_that_was_first_is_answered_whoever_comes_after_it_and_the_daemon_is_asked_once(
    tmp_path: Path, port: int
) -> None:
    """Neither silent clients nor those that ask, too, and go, take the answer from it while the daemon thinks."""
    real = tmp_path / "real"
    real.mkdir()
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as daemon,
        answering(real),
        exporter(tmp_path, f"{HOST}:{port}", (HOST, port), program=PATIENT) as running,
        contextlib.ExitStack() as stack,
    ):
        daemon.bind(str(tmp_path / "control"))
        daemon.listen()
        daemon.settimeout(SOON)
        first = stack.enter_context(running.connect())
        first.sendall(GET)
        question = stack.enter_context(daemon.accept()[0])
        asking = []
        for _ in range(2 * MOST_CLIENTS):
            asking.append(stack.enter_context(running.connect()))
            asking[-1].sendall(GET)
        silent = [stack.enter_context(running.connect()) for _ in range(2 * MOST_CLIENTS)]
        assert everything(silent[0]) == b"", "let go for others"
        for its in asking[1::2]:
            its.close()
        through(question, real / "control")
        for its in (first, *asking[::2]):
            assert parsed(split(everything(its))[2])["tcp_keepalive_up", ""] == "1"
        daemon.setblocking(False)
        with pytest.raises(BlockingIOError):
            daemon.accept()
        assert running.stop() == ""


def through(question: socket.socket, control: Path) -> None:
    """Hand a question to a daemon, and its answer back."""
    with socket.socket(socket.AF_UNIX) as real:
        real.connect(str(control))
        real.sendall(question.recv(1 << 16))
        answer = b""
        while not answer.endswith(b"\0"):
            answer += real.recv(1 << 16)
    question.sendall(answer)


def test_it_listens_on_a_unix_socket_for_its_user_and_group(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with answering(tmp_path), exporter(tmp_path, str(path), str(path)) as running:
        assert running.answers()[0] == "HTTP/1.1 200 OK"
        assert path.stat().st_mode & 0o777 == 0o660
        assert running.stop() == ""
    assert not path.exists()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagrams"])
def test_the_socket_of_another_process_is_not_taken_over(tmp_path: Path, kind: socket.SocketKind) -> None:
    """Also where it is of another kind, such as that of syslog; what an ended process left is in nobody's way."""
    path = tmp_path / "metrics"
    with answering(tmp_path), socket.socket(socket.AF_UNIX, kind) as taken:
        taken.bind(str(path))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        inode = path.stat().st_ino
        with exporter(tmp_path, str(path), str(path)) as running:
            out, err = running.process.communicate(timeout=SOON)
        assert (running.process.returncode, out) == (74, "")
        assert (
            err == f"keepalivectl: {path}: another process listens there; choose another path, or stop that process\n"
        )
        assert path.stat().st_ino == inode
        taken.close()
        with exporter(tmp_path, str(path), str(path)) as running:
            assert running.answers()[0] == "HTTP/1.1 200 OK"
            assert running.stop() == ""


def test_it_takes_the_socket_that_a_socket_unit_hands_over(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        through = (sys.executable, "-c", HAND_OVER, str(listener.fileno()))
        with answering(tmp_path), exporter(tmp_path, "systemd", listener.getsockname(), *through) as running:
            assert running.answers()[0] == "HTTP/1.1 200 OK"
            assert running.stop() == ""


def test_a_port_that_another_program_has_is_one_line_and_status_71(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        number = taken.getsockname()[1]
        with exporter(tmp_path, f"{HOST}:{number}", (HOST, number)) as running:
            out, err = running.process.communicate(timeout=SOON)
    assert (running.process.returncode, out) == (71, "")
    assert err == f"keepalivectl: {HOST}:{number}: cannot listen there: Address already in use\n"
