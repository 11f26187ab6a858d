"""The control socket: it serves many clients, a little of each at a turn, and never waits for one of them.

A client that sends what is no Varlink, or that does not take its answers, is let go. As long as a client has not
taken an answer, nothing more is read from it, and no further reply is made: so what is kept for it is bounded.

Root is served first, then the daemon's user and group, then everybody else, one user after the other (`peers.py`).

What only the decider can answer is handed to it as an event: one question at a time. After a question of another user
than root the others rest, so that they take a small share of the worker's time, however many ask.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from keepaliveD.daemon.control import passed
from keepaliveD.daemon.control.credentials import Credentials, credentials, groups
from keepaliveD.daemon.control.peers import Peer, Rank, Turns
from keepaliveD.daemon.control.varlink import ROOT, Broken, Client, Parameters, Service, continued
from keepaliveD.daemon.signals import within_a_moment
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import Refusal, StateError, is_shortage
from keepaliveD.model.events import Asked, Event
from keepaliveD.model.questions import Asker

DIRECTORY_MODE = 0o755  # as systemd makes it for a service
MODE = 0o660  # root, and whoever is in the group of the daemon's user ...
EVERYONE = 0o666  # ... or every user
MOST_CLIENTS = 256
KEPT_FOR_ROOT = 32  # of these
MOST_OF_ONE_USER = 128  # of others than root
CHUNK = 1 << 14  # octets that are read from one client in one turn
BUDGET = 32  # replies that are made in one turn ...
MOMENT = 0.002  # ... which begins no other one after so many seconds; then it pauses for as long as it took, ...
LONGEST_PAUSE = 0.5  # ... and so many seconds at most: what took longer was not done by clients
KEPT_BY_KERNEL = 1 << 15  # octets that it keeps for a client, about: SO_SNDBUF, which it doubles
NOTHING = -1  # no descriptor is waited for
COSTS = 20  # users other than root ask nothing for so many times as long as an answer took ...
LONGEST_REST = 10.0  # ... and so many seconds at most
LET_IN = 32  # clients in one turn, so that those who connect and go again keep nobody out
QUEUE = 128  # clients that wait to be let in


class Control:
    """A source of events (daemon/sources.py): the questions that only the decider can answer."""

    def __init__(self, path: Path, service: Service, now: Callable[[], float]) -> None:
        """Listen there, in place of a socket that a killed daemon left.

        Makes the directory if it is missing, and removes it at the end. Raises Refusal.
        """
        self._path = path
        self._service = service
        self._now = now
        self._peers: dict[int, Peer] = {}
        self._asking: Peer | None = None  # whose question the decider has
        self._asked = 0  # questions so far
        self._asked_at = -FOREVER
        self._pauses_until = -FOREVER
        self._rest_until = -FOREVER  # for users other than root
        self._is_for_everyone = False
        self._selector = selectors.EpollSelector()
        self._wake, self._waking = socket.socketpair()
        for end in (self._wake, self._waking):
            end.setblocking(False)
        self._made_directory = _make(path.parent)
        self._listener = listening(path)
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # for a client that is turned away
        status = os.stat(path)
        self._inode = status.st_ino
        self._own = Credentials(os.getpid(), status.st_uid, status.st_gid)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Return the descriptor that can be read once a client wants something; -1 while it pauses."""
        return NOTHING if self._now() < self._pauses_until else self._selector.fileno()

    def due(self) -> float:
        """Return the instant at which a pause ends, or a question that rests is to be asked."""
        if self._now() < self._pauses_until:
            return self._pauses_until
        rests = self._asking is None and any(peer.client.question for peer in self._peers.values())
        return self._rest_until if rests else FOREVER

    def events(self) -> Iterable[Event]:
        """Serve whoever is ready, for a bounded time, and return a question if it is its turn."""
        if self._now() < self._pauses_until:
            return
        self.turn()
        peer = None if self._asking else self._next_to_ask()
        while peer is not None and peer.has_given_up:
            self._let_go(peer)
            peer = self._next_to_ask()
        if peer is not None and peer.client.question is not None:
            self._asking, self._asked, self._asked_at = peer, self._asked + 1, self._now()
            yield Asked(Asker(self._asked, peer.user, peer.process), peer.client.question.asks)

    def admit(self, *, everyone: bool) -> None:
        """Let every user ask, or the group of the daemon's user alone; then others than root must come in again."""
        with contextlib.suppress(OSError):  # it was removed
            if os.stat(self._path).st_ino == self._inode:
                self._path.chmod(EVERYONE if everyone else MODE)
        if self._is_for_everyone and not everyone:
            for peer in [each for each in self._peers.values() if each.user != ROOT]:
                self._let_go(peer)
        self._is_for_everyone = everyone

    def settle(self, asker: Asker, answer: object) -> None:
        """Reply to the question that was asked last."""
        peer = self._asking
        if peer is None or asker.ticket != self._asked:
            return
        self._asking = None
        if peer.user != ROOT:
            took = self._now() - self._asked_at
            self._rest_until = self._now() + min(COSTS * took, LONGEST_REST)
        with self._letting_go(peer):
            self._last(peer)
            peer.client.settle(answer)
            self._write(peer)
        self._wake_up()  # others may ask now

    def turn(self) -> None:
        """Read, let clients in, make at most BUDGET replies, and write, without waiting.

        Those who have gone make room before others are let in.
        """
        began, is_knocked = self._now(), False
        for key, ready in self._selector.select(0):
            if key.fileobj is self._listener:
                is_knocked = True
            elif key.fileobj is self._wake:
                with contextlib.suppress(OSError):
                    self._wake.recv(CHUNK)
            elif peer := self._peers.get(key.fd):
                self._serve(peer, ready)
        if is_knocked:
            self._let_in_some()
        self._answer(began + MOMENT)
        if (now := self._now()) >= began + MOMENT:
            self._pauses_until = now + min(now - began, LONGEST_PAUSE)

    def publish(self, method: str, parameters: Parameters) -> None:
        """Send this to every client whose call of this method goes on."""
        listening = [peer for peer in self._peers.values() if peer.client.streaming == method]
        reply = continued(parameters) if listening else b""
        for peer in listening:
            with self._letting_go(peer):
                peer.client.go_on(reply)
                self._write(peer)

    def close(self) -> None:
        """Let all clients go, and remove the socket, unless another daemon has put its own there."""
        for peer in list(self._peers.values()):
            self._let_go(peer)
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                self._path.unlink()
            if self._made_directory:
                self._path.parent.rmdir()
        self._selector.close()
        for each in (self._listener, self._wake, self._waking):
            passed.close(each)  # clients that nobody has let in may have sent something, too
        self._close_spare()

    def _let_in_some(self) -> None:
        try:
            for _ in range(LET_IN):
                self._let_in(self._listener.accept()[0])
        except OSError as error:
            if is_shortage(error):
                self._turn_away()

    def _let_in(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # gone already
            accepted.setblocking(False)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KEPT_BY_KERNEL)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # else it would be thrown away unseen
            its = credentials(accepted)
            rank = self._rank(accepted, its)
            if not self._has_room_for(its.user, rank):
                passed.close(accepted)
                return
            peer = Peer(accepted, Client(self._service, its.user), its.user, its.process, rank)
            self._peers[accepted.fileno()] = peer
            with self._letting_go(peer):
                self._wait_for(peer, selectors.EVENT_READ)

    def _rank(self, accepted: socket.socket, its: Credentials) -> Rank:
        if its.user == ROOT:
            return Rank.ROOT
        is_member = its.user == self._own.user or self._own.group in (its.group, *groups(accepted))
        return Rank.MEMBER if is_member else Rank.ANYBODY

    def _turn_away(self) -> None:
        """Close the connection of a client for which no descriptor is left: as long as it waits, we cannot rest."""
        self._close_spare()
        with contextlib.suppress(OSError):
            passed.close(self._listener.accept()[0])
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
        self._spare = None

    def _has_room_for(self, user: int, rank: Rank) -> bool:
        """Return whether one more client of this user has a place, after one of a user with more has made room.

        Those of a worse rank make room first, also where each of them has one place, and never for them a better one.
        """
        if user == ROOT:
            return len(self._peers) < MOST_CLIENTS
        places = Counter((peer.rank, peer.user) for peer in self._peers.values() if peer.user != ROOT)
        its = places[rank, user]
        if sum(places[each, user] for each in Rank) >= MOST_OF_ONE_USER:
            return False
        if len(self._peers) < MOST_CLIENTS - KEPT_FOR_ROOT:
            return True
        greediest, most = max(places.items(), key=lambda one: (one[0][0], one[1]), default=((rank, user), 0))
        # among equals, else two users would take a place from each other in turns
        if greediest[0] < rank or (greediest[0] is rank and most <= its + bool(its)):
            return False
        self._let_go(next(peer for peer in self._peers.values() if (peer.rank, peer.user) == greediest))
        return True

    def _serve(self, peer: Peer, ready: int) -> None:
        with self._letting_go(peer):
            if ready & selectors.EVENT_WRITE:
                self._write(peer)
            if ready & selectors.EVENT_READ and peer.client.is_listened_to:
                peer.client.receive(_received(peer.socket))

    def _answer(self, end: float) -> None:
        """Make a reply for each client that waits for one, in turns; what is left over is for the next time."""
        turns = Turns(self._peers.values(), lambda client: client.is_waiting)
        for _ in range(BUDGET if turns else 0):
            peer = turns.next()
            with self._letting_go(peer):
                self._last(peer)
                peer.went_on = peer.client.goes_on
                peer.client.answer()
                self._write(peer)
            if peer.is_here and peer.client.is_waiting:
                turns.add(peer)
            if not turns or self._now() >= end:
                break
        if turns:
            self._wake_up()

    def _last(self, peer: Peer) -> None:
        """Let the others come first from now on."""
        number = peer.socket.fileno()
        self._peers[number] = self._peers.pop(number)

    def _next_to_ask(self) -> Peer | None:
        """Return whose question is next, if any may be asked now."""
        turns = Turns(self._peers.values(), lambda client: client.question is not None)
        peer = turns.next() if turns else None
        return None if peer and peer.rank is not Rank.ROOT and self._now() < self._rest_until else peer

    def _wake_up(self) -> None:
        """Have another turn, whatever else happens."""
        with contextlib.suppress(OSError):  # it is full, so that we wake in any case
            self._waking.send(b"\0")

    def _write(self, peer: Peer) -> None:
        """Write what the client takes, and wait for it only as long as it has not taken all.

        A client that has asked a question is not listened to before it is answered.
        """
        if peer.client.outgoing:
            with contextlib.suppress(BlockingIOError):
                peer.client.took(peer.socket.send(peer.client.outgoing))
        if peer.client.outgoing:
            self._wait_for(peer, selectors.EVENT_WRITE)
        else:
            self._wait_for(peer, 0 if peer.client.question else selectors.EVENT_READ)

    def _wait_for(self, peer: Peer, events: int) -> None:
        """Wait for these events of its socket, or for nothing."""
        before, peer.waits_for = peer.waits_for, events
        if events and before and events != before:
            self._selector.modify(peer.socket, events)
        elif events and not before:
            self._selector.register(peer.socket, events)
        elif before and not events:
            self._selector.unregister(peer.socket)

    @contextlib.contextmanager
    def _letting_go(self, peer: Peer) -> Iterator[None]:
        """Let a client go if it breaks the rules or is gone."""
        try:
            yield
        except BlockingIOError:
            pass
        except Exception:  # a defect of an answer as well: it costs one client, and never the daemon
            self._let_go(peer)

    def _let_go(self, peer: Peer) -> None:
        if peer.is_here:
            del self._peers[peer.socket.fileno()]
            with contextlib.suppress(KeyError):  # the kernel could not wait for it
                self._wait_for(peer, 0)
            passed.close(peer.socket)


def _received(connection: socket.socket) -> bytes:
    """Return what a client has sent. Raises Broken where it has gone, or has sent descriptors, and OSError."""
    with within_a_moment():
        octets, _, flags, _ = connection.recvmsg(CHUNK)
    if not octets:
        raise Broken("it has gone")
    if flags & socket.MSG_CTRUNC:
        raise Broken("it has sent descriptors")
    return octets


def listening(path: Path) -> socket.socket:
    """Return a socket that listens there. Raises Refusal."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        passed.keep_away(listener)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise StateError(f"{path}: is no socket; remove it")
            if other := _other_daemon(path):
                raise StateError(f"{path}: {other} listens there")
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


def _make(directory: Path) -> bool:
    """Make the directory where no service manager has, and return whether it is new. Raises StateError."""
    try:
        directory.mkdir()
        directory.chmod(DIRECTORY_MODE)  # whatever the umask
    except FileExistsError:
        return False
    except OSError as error:
        raise StateError(f"{directory}: cannot be made: {error.strerror or error}") from error
    return True


def _other_daemon(path: Path) -> str:
    """Return the other daemon that listens at this socket; "" where it has ended, or none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(str(path))
            pid = credentials(asking).process
        except BlockingIOError:  # so many wait to be let in that there is no room for one more
            return "another daemon"
        except OSError:
            return ""
    return "" if pid == os.getpid() else f"another daemon (process {pid})"
