"""Ask a running daemon by its control socket, as a client of Varlink."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keepaliveD.cli.starting import how_to_start
from keepaliveD.daemon.control.credentials import credentials
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted
from keepaliveD.places import CONTROL, INTERFACE, RUNTIME_DIRECTORY

PATIENCE = 2.0  # seconds for an answer
LONGEST = 1 << 24  # octets of one
TIME = struct.Struct("@2l")  # struct timeval (socket(7))
END = b"\0"
STOPPED = b"\nState:\tT"  # proc_pid_status(5)
FAILED = f"{INTERFACE}.Failed"
PERMISSION_DENIED = "org.varlink.service.PermissionDenied"


def control_socket(root: Path) -> Path:
    """Return where the control socket is: in systemd's RuntimeDirectory=, or the usual place."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return (Path(directory) if directory else root / RUNTIME_DIRECTORY) / CONTROL


def ask(
    path: Path, method: str, parameters: Mapping[str, Any] | None = None, patience: float = PATIENCE
) -> dict[str, Any]:
    """Return the answer to a method, within so many seconds. Raises NoInput, NotPermitted, KernelError."""
    with _connected(path) as connection:
        connection.settimeout(patience)
        _call(connection, method, parameters, more=False)
        return next(_answers(connection, path))


def listens(path: Path) -> int:
    """Return the process that listens there. Raises NoInput, NotPermitted, KernelError."""
    with _connected(path) as connection:
        return credentials(connection).process


def listen(path: Path, method: str) -> Iterator[dict[str, Any]]:
    """Yield answer after answer of a method, until the daemon ends. Raises NoInput, NotPermitted, KernelError."""
    with _connected(path) as connection:
        _call(connection, method, more=True)
        yield from _answers(connection, path, endless=True)


def every(
    path: Path, method: str, parameters: Mapping[str, Any], patience: float = PATIENCE
) -> Iterator[dict[str, Any]]:
    """Yield answer after answer of a method, up to the last one, waiting for each so many seconds at most.

    Raises NoInput, NotPermitted, KernelError.
    """
    with _connected(path) as connection:
        connection.settimeout(patience)
        _call(connection, method, parameters, more=True)
        yield from _answers(connection, path)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        # a timeout of Python's would have connect(2) fail at once while many others wait to be let in
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIME.pack(int(PATIENCE), int(PATIENCE % 1 * 1e6)))
        try:
            connection.connect(str(path))
            _raise_if_stopped(credentials(connection).process)
            yield connection
        except (FileNotFoundError, ConnectionRefusedError) as error:
            start = how_to_start(Path("/"))
            raise NoInput(f"{path}: no daemon can be asked there; start it with {start}") from error
        except PermissionError as error:
            message = (
                f"{path}: {error.strerror}; run as root, or as a member of the group tcp-keepalived, "
                'or write readers = "everyone" into [watch]'
            )
            raise NotPermitted(message) from error
        except BlockingIOError as error:
            raise KernelError(f"{path}: the daemon does not answer: timed out") from error
        except OSError as error:
            raise KernelError(f"{path}: the daemon does not answer: {error.strerror or error}") from error


def _raise_if_stopped(daemon: int) -> None:
    """Raise KernelError where the daemon was stopped by a signal: clients would wait for ever."""
    with contextlib.suppress(OSError):
        if STOPPED in Path(f"/proc/{daemon}/status").read_bytes():
            raise KernelError(f"the daemon (process {daemon}) is stopped; kill -CONT {daemon} lets it go on")


def _call(connection: socket.socket, method: str, parameters: Mapping[str, Any] | None = None, *, more: bool) -> None:
    call = {"method": f"{INTERFACE}.{method}", "parameters": parameters or {}, "more": more}
    connection.sendall(json.dumps(call).encode() + END)


def _answers(connection: socket.socket, path: Path, *, endless: bool = False) -> Iterator[dict[str, Any]]:
    received = b""
    while octets := connection.recv(1 << 16):
        *whole, received = (received + octets).split(END)
        if len(received) > LONGEST:
            break
        for each in whole:
            answer = json.loads(each)
            if answer.get("error") == PERMISSION_DENIED:
                raise NotPermitted(f"{path}: only root may give orders there")
            if answer.get("error") == FAILED:
                raise KernelError(f"the daemon has not done it: {answer['parameters']['reason']}")
            if "error" in answer:
                raise KernelError(f"{path}: {answer['error']}: {answer.get('parameters')}")
            yield answer["parameters"]
            if not answer.get("continues", False):
                return
    if received or not endless:
        raise KernelError(f"{path}: the daemon ended before its answer did; try again")
