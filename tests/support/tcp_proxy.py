"""A TCP proxy, which answers the keepalive probes of both its ends: it passes on what they say, and no probe.

usage: tcp_proxy.py ADDRESS PORT TO_ADDRESS TO_PORT
"""

import asyncio
import contextlib
import sys


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one end says until that ends."""
    with contextlib.suppress(OSError):
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
    writer.close()


async def serve(address: str, port: str, to_address: str, to_port: str) -> None:
    """Serve for ever."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_there = await asyncio.open_connection(to_address, int(to_port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pass_on(reader, to_there), pass_on(there, writer))

    async with await asyncio.start_server(meet, address, int(port)) as server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
