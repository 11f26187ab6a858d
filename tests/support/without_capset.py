"""Runs a command in a sandbox that forbids capset(2): usage: python -m tests.support.without_capset COMMAND ..."""

import os
import sys

from tests.support import seccomp

seccomp.refuse(seccomp.CAPSET)
os.execvp(sys.argv[1], sys.argv[1:])
