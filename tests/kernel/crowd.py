"""Many connections of one process; or, with 0 of them, the server of all.

usage: crowd.py ADDRESS PORT CONNECTIONS
The server answers every word with the same. The others connect on the first line of standard input;
for each further one they say a word in every connection and print how many were answered.
"""

import asyncio
import sys

WORD = b"word"
PATIENCE = 60  # seconds to wait for all answers

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of the server's."""
    while word := await reader.read(len(WORD)):
        writer.write(word)


async def is_answered(connection: Connection) -> bool:
    """Whether a word comes back."""
    reader, writer = connection
    writer.write(WORD)
    try:
        return await asyncio.wait_for(reader.readexactly(len(WORD)), PATIENCE) == WORD
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def main() -> None:
    """Connect, or serve, until killed."""
    address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if not count:
        server = await asyncio.start_server(answer, address, port, backlog=4096)
        print("serving", flush=True)
        await server.serve_forever()
    print("ready", flush=True)
    sys.stdin.readline()
    connections = await asyncio.gather(*(asyncio.open_connection(address, port) for _ in range(count)))
    print("connected", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(sum(await asyncio.gather(*map(is_answered, connections))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
