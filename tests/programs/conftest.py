"""What tests with real programs need, and what they must leave behind: nothing."""

from __future__ import annotations

import pwd
import shutil

from tests.kernel import conftest as kernel
from tests.kernel.conftest import _leaves_nothing_behind
from tests.programs import openssh, postgresql
from tests.programs.stage import USER

__all__ = ["_leaves_nothing_behind"]  # of these tests too


def missing() -> str:
    """What these tests cannot do without, or nothing."""
    if reason := kernel.missing():
        return reason
    programs = {"openssh-server": shutil.which(openssh.SSHD), "openssh-client": shutil.which("ssh")}
    absent = [package for package, program in programs.items() if not program]
    if not postgresql.binaries() or USER not in {user.pw_name for user in pwd.getpwall()}:
        absent.append("postgresql")
    return f"these tests need {', '.join(absent)}: script/setup test installs them" if absent else ""
