"""A measurement over a chain of devices, by the real programs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from subprocess import Popen
from typing import Any

from tests.programs.stage import awaited
from tests.support.chain import Chain
from tests.support.processes import CTL

PORT = "7272"
URGENT = ("nice", "--adjustment=-15")  # a firewall does not wait for a busy machine
LONG = 900.0  # seconds that a measurement may take on a busy machine

Found = dict[str, Any]


@contextlib.contextmanager
def listening(chain: Chain) -> Iterator[str]:
    """A listener at the server; its token."""
    with chain.server.running(*URGENT, *CTL, "measure", "--listen", PORT) as process:
        yield token_of(process)


def token_of(listener: Popen[str]) -> str:
    """The token that a listener shows once it listens."""
    assert listener.stderr
    (token,) = re.findall(r"--token[ =](\S+)", awaited(listener.stderr, "THIS_HOST", LONG))
    return str(token)


def measure(
    chain: Chain, *options: str, to: str = "", port: str = PORT, during: Callable[[Popen[str]], None] | None = None
) -> Found:
    """What `keepalivectl measure --json` finds from the client; `during` happens from when it begins."""
    command = (*URGENT, *CTL, "measure", f"{to or chain.address}:{port}", "--json", *options)
    with chain.client.running(*command) as process:
        if during is not None:
            assert process.stderr
            awaited(process.stderr, "round 1", LONG)
            during(process)
        told, complaints = process.communicate(timeout=LONG)
    assert told, complaints
    found: Found = json.loads(told)
    return found
