"""A sum is the same, whoever computes it."""

from __future__ import annotations

import hashlib
import importlib
import sys

import pytest

from keepaliveD.model import digest

TEXT = b"keepalive" * 100


def test_a_sum_is_the_one_that_other_programs_compute() -> None:
    assert digest.sha256(TEXT) == hashlib.sha256(TEXT).hexdigest()


def test_a_python_that_leaves_all_hashes_to_openssl_computes_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, digest.OWN, None)
        of_openssl = importlib.reload(digest).sha256(TEXT)
    assert of_openssl == importlib.reload(digest).sha256(TEXT)
