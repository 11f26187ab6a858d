"""Hearing ICMP errors, where that is not permitted."""

from __future__ import annotations

import errno
import os

import pytest

from keepaliveD.platforms.linux.deaths import icmp


def test_whoever_may_not_read_icmp_is_told_what_that_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the table of requirements has it."""

    def refused(_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(icmp, "_listen", refused)
    errors = icmp.IcmpErrors()
    assert errors.hindered.startswith("routers are not named: ICMP cannot be read: Operation not permitted; ")
    assert (
        "; requires CAP_NET_RAW, RestrictAddressFamilies=AF_INET AF_INET6 and IPAddressAllow=any in" in errors.hindered
    )
    errors.close()
