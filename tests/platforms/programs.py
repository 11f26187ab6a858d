"""tcp-keepalived and keepalivectl as processes of their own, whose system's commands stand below a root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.platforms.emulators.hosts import REPOSITORY

SCRIPT = """
import sys
from pathlib import Path
from keepaliveD.daemon import signals
signals.catch()
from keepaliveD.cli import ctl, daemon
program, root, killed, *arguments = sys.argv[1:]
if killed == "True":
    import os, signal
    from keepaliveD.daemon.daemon import Daemon
    Daemon.notify = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit({"tcp-keepalived": daemon, "keepalivectl": ctl}[program].main(arguments, Path(root)))
"""


def run(
    program: str, root: Path, *arguments: str, killed_before_stop: bool = False
) -> subprocess.CompletedProcess[str]:
    """One run of it."""
    command = [sys.executable, "-c", SCRIPT, program, str(root), str(killed_before_stop), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "IFS": "x", "LC_ALL": "de_DE.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
