"""The control socket: it serves many clients, a little of each at a turn, and never waits for one of them.

A client that sends what is no Varlink, or that does not take its answers, is let go. As long as a client has not
taken an answer, nothing more is read from it: so what is kept for it is bounded.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keepaliveD.daemon.varlink import Broken, Client, Parameters, Service
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import Refusal, StateError
from keepaliveD.model.events import Event

MODE = 0o660  # root, and whoever is in the group of the daemon's user
MOST_CLIENTS = 256
MOST_OF_ONE_USER = 128  # of others than root
CHUNK = 1 << 14  # octets that are read from one client in one turn
BUDGET = 32  # calls that are answered in one turn
QUEUE = 128  # clients that wait to be let in
CREDENTIALS = struct.Struct("3i")  # struct ucred (unix(7)): process, user, group


@dataclass(slots=True)
class _Peer:
    socket: socket.socket
    client: Client
    user: int


class Control:
    """A source of events (daemon/sources.py) that has none so far: all that is asked is answered at once."""

    def __init__(self, path: Path, service: Service) -> None:
        """Listen there, in place of a socket that a killed daemon left. Raises Refusal."""
        self._path = path
        self._service = service
        self._peers: dict[int, _Peer] = {}
        self._selector = selectors.EpollSelector()
        self._wake, self._waking = socket.socketpair()
        for end in (self._wake, self._waking):
            end.setblocking(False)
        self._listener = listening(path)
        self._inode = os.stat(path).st_ino
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Return the descriptor that can be read once a client wants something."""
        return self._selector.fileno()

    def due(self) -> float:
        """Return that nothing happens while the descriptor cannot be read."""
        return FOREVER

    def events(self) -> Iterable[Event]:
        """Serve whoever is ready, for a bounded time."""
        self.turn()
        return ()

    def turn(self) -> None:
        """Let clients in, read, answer at most BUDGET calls, and write, without waiting."""
        for key, ready in self._selector.select(0):
            if key.fileobj is self._listener:
                self._let_in()
            elif key.fileobj is self._wake:
                with contextlib.suppress(OSError):
                    self._wake.recv(CHUNK)
            elif peer := self._peers.get(key.fd):
                self._serve(peer, ready)
        self._answer()

    def publish(self, method: str, parameters: Parameters) -> None:
        """Send this to every client whose call of this method goes on."""
        for peer in [peer for peer in self._peers.values() if peer.client.streaming == method]:
            with self._letting_go(peer):
                peer.client.go_on(parameters)
                self._write(peer)

    def close(self) -> None:
        """Let all clients go, and remove the socket, unless another daemon has put its own there."""
        for peer in list(self._peers.values()):
            self._let_go(peer)
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                self._path.unlink()
        self._selector.close()
        for each in (self._listener, self._wake, self._waking):
            each.close()

    def _let_in(self) -> None:
        with contextlib.suppress(OSError):  # gone already, or no descriptor is left
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            user = CREDENTIALS.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[1]
            theirs = sum(peer.user == user for peer in self._peers.values())
            if len(self._peers) >= MOST_CLIENTS or (user and theirs >= MOST_OF_ONE_USER):
                accepted.close()
                return
            self._peers[accepted.fileno()] = _Peer(accepted, Client(self._service), user)
            self._selector.register(accepted, selectors.EVENT_READ)

    def _serve(self, peer: _Peer, ready: int) -> None:
        with self._letting_go(peer):
            if ready & selectors.EVENT_WRITE:
                self._write(peer)
            if ready & selectors.EVENT_READ and peer.client.is_listened_to:
                octets = peer.socket.recv(CHUNK)
                if not octets:
                    raise Broken("it has gone")
                peer.client.receive(octets)

    def _answer(self) -> None:
        """Answer one call of each client that has sent one; what is left over is answered in the next turn."""
        waiting = [(number, peer) for number, peer in self._peers.items() if peer.client.is_waiting]
        for number, peer in waiting[:BUDGET]:
            self._peers[number] = self._peers.pop(number)  # the others come first in the next turn
            with self._letting_go(peer):
                peer.client.answer()
                self._write(peer)
        if any(peer.client.is_waiting for _, peer in waiting):
            with contextlib.suppress(OSError):  # it is full, so that we wake in any case
                self._waking.send(b"\0")

    def _write(self, peer: _Peer) -> None:
        """Write what the client takes, and wait for it only as long as it has not taken all."""
        if peer.client.outgoing:
            with contextlib.suppress(BlockingIOError):
                peer.client.took(peer.socket.send(peer.client.outgoing))
        wanted = selectors.EVENT_WRITE if peer.client.outgoing else selectors.EVENT_READ
        self._selector.modify(peer.socket, wanted)

    @contextlib.contextmanager
    def _letting_go(self, peer: _Peer) -> Iterator[None]:
        """Let a client go if it breaks the rules or is gone."""
        try:
            yield
        except BlockingIOError:
            pass
        except Exception:  # a defect of an answer as well: it costs one client, and never the daemon
            self._let_go(peer)

    def _let_go(self, peer: _Peer) -> None:
        del self._peers[peer.socket.fileno()]
        self._selector.unregister(peer.socket)
        peer.socket.close()


def listening(path: Path) -> socket.socket:
    """Return a socket that listens there. Raises Refusal."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise StateError(f"{path}: is no socket; remove it")
            path.unlink()
        listener.bind(str(path))
        path.chmod(MODE)
        listener.listen(QUEUE)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StateError(f"{path}: cannot listen there: {error.strerror or error}") from error
    except Refusal:
        listener.close()
        raise
    return listener
