"""The running kernel, which may be older than what is tested."""

import os
import re

import pytest

# Linux since which ...
WALK, ITERATOR = (6, 2), (5, 15)  # BPF can read sockets so
CONSULT = (5, 18)  # BPF can ask connection tracking
OWN_TABLES = (6, 1)  # a namespace can have a table of sockets of its own
SHOWS_ULP = (6, 18)  # at the latest: sock_diag shows a subflow as such without CAP_NET_ADMIN
LASTING = (5, 19)  # what is loaded is used without a capability, whatever kernel.unprivileged_bpf_disabled says

RTO_MAX = (6, 15)  # how long a retransmission waits at most can be set

RUNNING = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def since(version: tuple[int, int]) -> pytest.MarkDecorator:
    """Of a test of what older kernels do not have: there it is left out, and is no skip."""
    return pytest.mark.linux(version)
