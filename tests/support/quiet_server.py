"""A service that says nothing, and holds what connects: for so many seconds, or for ever.

usage: quiet_server.py ADDRESS PORT [SECONDS]
Prints how many connections it holds, and the most that it held at a time, whenever a line of standard input asks.
"""

import selectors
import socket
import sys
import time


def main() -> None:
    """Serve until standard input ends."""
    patience = float(sys.argv[3]) if len(sys.argv) > 3 else float("inf")
    events = selectors.DefaultSelector()
    server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=100)
    events.register(server, selectors.EVENT_READ, "server")
    events.register(sys.stdin, selectors.EVENT_READ, "asked")
    held: dict[socket.socket, float] = {}
    most = 0
    print("ready", flush=True)
    while True:
        for key, _ in events.select(timeout=0.1):
            if key.data == "server":
                connection, _ = server.accept()
                held[connection] = time.monotonic()
                most = max(most, len(held))
                events.register(connection, selectors.EVENT_READ)
            elif key.data == "asked":
                if not sys.stdin.readline():
                    return
                print(len(held), most, flush=True)
            elif isinstance(key.fileobj, socket.socket):
                _drop(events, held, key.fileobj)
        for connection in [each for each, since in held.items() if time.monotonic() - since > patience]:
            _drop(events, held, connection)


def _drop(events: selectors.BaseSelector, held: dict[socket.socket, float], connection: socket.socket) -> None:
    events.unregister(connection)
    del held[connection]
    connection.close()


if __name__ == "__main__":
    main()
