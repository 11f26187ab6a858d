"""Messages between the daemon and its worker."""

from __future__ import annotations

import errno
import socket

import numpy as np
import pytest

from keepaliveD.daemon.worker.messages import SMALL, send
from keepaliveD.model.errors import unexpected
from tests.records.test_settings import fail_with


def test_a_limit_of_file_sizes_that_is_too_small_for_a_message_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its large arrays are in a file that only memory holds: it has no name."""
    near, far = socket.socketpair()
    monkeypatch.setattr("os.write", fail_with(errno.EFBIG))
    with near, far, pytest.raises(OSError, match="File too large") as refused:
        send(near, np.zeros(SMALL + 1, np.uint8))
    assert str(unexpected(refused.value)) == (
        "memory shared between its processes: File too large; raise the limit of file sizes (LimitFSIZE=, ulimit -f)"
    )
