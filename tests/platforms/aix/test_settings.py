"""What is odd on AIX: half-seconds, and NAME = VALUE."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.errors import ConfigError, KernelError
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.platforms.aix.settings import AIX, IDLE
from tests.platforms.emulators.hosts import Host, aix
from tests.platforms.worlds import write


def test_nothing_that_is_set_outlives_the_boot(tmp_path: Path) -> None:
    """With -p or -r no(1) would write it to /etc/tunables/nextboot."""
    host = aix(tmp_path)
    tuner = AIX(tmp_path)
    write(tuner, tuner.names(Keepalive(180, 20, 31)))
    assert host.look().values == {"tcp_keepidle": 360, "tcp_keepintvl": 40, "tcp_keepcnt": 31}


@pytest.mark.parametrize("answer", ["tcp_keepidle", "tcp_keepidle =", "tcp_keepidle = n/a", "other = 7", "7"])
def test_an_answer_of_another_form_is_no_number(tmp_path: Path, answer: str) -> None:
    """Least of all the number of something else; a bare one is one."""
    host: Host = aix(tmp_path)
    (tmp_path / "usr/sbin/no").write_text(f"#!/bin/sh\necho '{answer}'\n")
    del host
    tuner = AIX(tmp_path)
    if answer == "7":
        assert tuner.read()[IDLE] == 7
        return
    with pytest.raises(KernelError, match="is not a number"):
        tuner.read()


def test_what_an_int_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Old ones check nothing."""
    with pytest.raises(ConfigError, match="this system allows 1073741823s in total"):
        AIX(tmp_path).names(Keepalive(180, 60_000, 20_000))
