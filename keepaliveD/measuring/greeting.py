"""What both ends say before a connection is left quiet: a challenge, a request, and one byte.

The listener sends a nonce. The measuring end says what it wants of this connection, and proves that it has the token.
The listener answers with one byte, or closes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import astuple

from keepaliveD.model.dataclass import dataclass

ANY_BANNER = b"keepalive-measure "  # of any version
BANNER = ANY_BANNER + b"1 "
AGREED = b"."
FULL = ANY_BANNER + b"full\n"  # instead of the challenge
LONGEST_LINE = 200  # bytes
NONCE = 16  # bytes
AFTERWARDS = 300.0  # seconds that a connection is to live after its silence: so long an outage may last
MOST = 10**9  # of any number in a request: eleven days in milliseconds


@dataclass(frozen=True, slots=True)
class Request:
    """What the listener does on one connection; times are milliseconds since the answer, 0 for what it leaves out.

    It probes once after `probe_after`. From the start until `keep_until` it probes every `keep_every` over at most
    `keep_hops` hops. After `life` it may free the connection.
    """

    life: int
    probe_after: int = 0
    keep_hops: int = 0
    keep_every: int = 0
    keep_until: int = 0


def life(quiet: float) -> int:
    """Return how long a listener is to keep a connection that is quiet for so many seconds, in milliseconds."""
    return round((quiet + AFTERWARDS) * 1000)


def new_token() -> str:
    """Return a secret that nobody can guess, and that no command line takes for anything else."""
    return secrets.token_hex(12)


def challenge() -> bytes:
    """Return the first line of a listener."""
    return BANNER + secrets.token_hex(NONCE).encode() + b"\n"


def is_challenge(line: bytes) -> bool:
    """Whether a listener of ours says this."""
    return line.startswith(BANNER) and len(line) == len(BANNER) + 2 * NONCE + 1


def request_line(request: Request, nonce_line: bytes, token: str) -> bytes:
    """Return the answer to a challenge."""
    words = " ".join(map(str, astuple(request)))
    return f"{words} {_proof(words, nonce_line, token)}\n".encode("ascii")


def read_request(line: bytes, nonce_line: bytes, token: str) -> Request | None:
    """Return what is asked for; None where that is not proved, or makes no sense."""
    words, _, proof = line.decode("ascii", "replace").rstrip("\n").rpartition(" ")
    if not hmac.compare_digest(proof.encode(), _proof(words, nonce_line, token).encode()):
        return None
    numbers = words.split()
    if len(numbers) != len(astuple(Request(0))) or not all(each.isdecimal() and int(each) <= MOST for each in numbers):
        return None
    return Request(*map(int, numbers))


def _proof(words: str, nonce_line: bytes, token: str) -> str:
    return hmac.new(token.encode(), nonce_line + words.encode(), hashlib.sha256).hexdigest()
