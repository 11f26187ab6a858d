"""The running kernel, which may be older than what is tested."""

import os
import re

import pytest

WALK, ITERATOR = (6, 2), (5, 15)  # Linux since which BPF can read sockets so
OWN_TABLES = (6, 1)  # and since which a namespace can have a table of sockets of its own
# and since which it takes no capability to use what is loaded ("bpf: refine kernel.unprivileged_bpf_disabled behaviour")
LASTING = (5, 19)
RUNNING = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def since(version: tuple[int, int]) -> pytest.MarkDecorator:
    """Of a test of what older kernels do not have: there it is left out, and is no skip."""
    return pytest.mark.linux(version)
