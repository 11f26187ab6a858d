"""keepalivectl check, of a file whose file server has died."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest

from tests.support.processes import CTL, MUTE, next_line
from tests.support.rig import Namespace


@pytest.mark.parametrize("option", ["", "--config="])
def test_ctrl_c_is_heard_while_a_file_hangs(tmp_path: Path, option: str) -> None:
    check = shlex.join(["env", "--default-signal=INT", *CTL, "check", f"{option}{tmp_path}/config.toml"])
    with Namespace() as place, place.running(*MUTE, str(tmp_path), "running", f"{check}; echo ended by $?") as server:
        shell = int(next_line(server))
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="ascii")
        (reader,) = map(int, children.split())
        os.kill(reader, signal.SIGINT)
        assert next_line(server).rstrip() == "ended by 130"
