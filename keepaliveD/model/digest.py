"""SHA-256 by Python's own code: hashlib loads OpenSSL, which is 3 MB of memory in a daemon that needs one sum."""

from __future__ import annotations

import importlib
import sys

OWN = "_sha2" if sys.version_info >= (3, 12) else "_sha256"  # as random imports _sha512


def sha256(octets: bytes) -> str:
    """Return the SHA-256 of octets in hexadecimal digits."""
    digits: str = _ALGORITHM(octets).hexdigest()
    return digits


try:
    _ALGORITHM = importlib.import_module(OWN).sha256
except ImportError:  # a Python that was built to leave all hashes to OpenSSL
    _ALGORITHM = importlib.import_module("hashlib").sha256
