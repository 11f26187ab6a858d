"""Where a real program performs: a rig, its server at the server, its client at the client."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from subprocess import Popen
from typing import IO

import psutil

from tests.support.patience import SOON
from tests.support.rig import Namespace

USER = "postgres"  # of Debian's package postgresql: one without privilege, yet with a shell
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--reset-env", "--pdeathsig=KILL")
ALONE = ("unshare", "--pid", "--ipc", "--fork")  # whoever dies here takes all descendants and shared memory along
PLAIN = ("env", "--ignore-environment")  # no settings of whoever runs the tests


@contextlib.contextmanager
def serving(namespace: Namespace, *command: str, ready: str, through: Sequence[str] = ()) -> Iterator[Popen[str]]:
    """A server in there, from when its log says that it is ready to the end of the block; nothing of it is left.

    `through` is a command that root runs, which runs the server.
    """
    with namespace.running(*ALONE, *through, *AS_USER, *command) as process:
        try:
            assert process.stderr
            said = awaited(process.stderr, ready)
            assert ready in said, said
            yield process
        finally:
            for first in psutil.Process(process.pid).children():
                first.kill()
            process.wait(SOON)


def awaited(stream: IO[str], text: str, within: float = SOON) -> str:
    """What a program said until it said this, or until it ended or the time was over."""
    deadline, said = time.monotonic() + within, b""
    while text.encode() not in said:
        if not select.select([stream], [], [], max(0, deadline - time.monotonic()))[0]:
            break
        if not (more := os.read(stream.fileno(), 1 << 16)):
            break
        said += more
    return said.decode()
