"""The lines of the arming record, one a socket.

    tcp-keepalived armed 2 BOOT
    COOKIE  ON IDLE INTERVAL PROBES  ON IDLE INTERVAL PROBES  INHERITED  CHECK      before, after
    COOKIE  ON IDLE INTERVAL PROBES  INHERITED  CHECK                               put back as a daemon ended
    COOKIE -  CHECK                                                                 put back, or somebody's since
    COOKIE 0  CHECK                                                                 not set after all

INHERITED is a sum: of the three before (or put back), the socket took 1 its idle time, 2 its interval, 4 its number of
probes from its network namespace. CHECK is a checksum of the boot and the line (CRC-32, hexadecimal): a line
that was damaged says nothing, and a damaged heading spoils no line. Format 1, of earlier versions, has neither.
"""

from __future__ import annotations

import contextlib
import functools
import re
import zlib
from collections.abc import Iterator

import numpy as np

from keepaliveD.model.keepalive import Keepalive, Own, SocketKeepalive
from keepaliveD.model.results import Armed, Entry, Mark, PutBack
from keepaliveD.policy.arming.shared import Shared

PART = 10_000  # lines that are made or read at a time
TIMES = 4  # words of what stood there, of what was set, or of what was put back
REST = len(f"{(1 << 64) - 1}  00000000\n")  # octets of a line with the longest cookie, without its words
SPREAD = 0x9E3779B1  # odd, of about as many ones as zeros
LOW = 0xFFFFFFFF  # the bits of a checksum
START = "tcp-keepalived armed "  # of the heading, in every format
ANY_HEADING = re.compile(START + r"[0-9]+ ([0-9A-Za-z-]+)\n")
CUT_HEADING = re.compile(START + r"[0-9]+( [0-9A-Za-z-]*)?")

MARKS = {mark.value: mark for mark in Mark}


class Lines:
    """The lines about the sockets of one boot."""

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self.heading = f"{START}2 {boot}\n"
        self.earlier_heading = f"{START}1 {boot}\n"
        self._check = zlib.crc32(boot.encode())

    def of(self, entries: Shared[Entry]) -> Iterator[str]:
        """Yield the lines of some sockets at a time, in their order."""
        used, number_of = np.unique(entries.numbers, return_inverse=True)
        kinds = [_words(entries.kinds[number]) for number in used.tolist()]
        lines = [f"%d {words} %08x\n" for words in kinds]  # filled in at once: a call for each takes longer
        checks = np.array([self._check_of(words) for words in kinds], np.uint64)
        for start in range(0, len(entries), PART):
            cookies, numbers = entries.cookies[start : start + PART], number_of[start : start + PART]
            filled = np.column_stack([cookies, (cookies * np.uint64(SPREAD) ^ checks[numbers]) & np.uint64(LOW)])
            yield "".join([lines[number] for number in numbers.tolist()]) % tuple(filled.ravel().tolist())

    def most_octets(self, entries: Shared[Entry]) -> int:
        """Return how many octets the lines of these sockets have at most."""
        used, counts = np.unique(entries.numbers, return_counts=True)
        words = (len(_words(entries.kinds[number])) for number in used.tolist())
        return sum(count * (each + REST) for count, each in zip(counts.tolist(), words, strict=True))

    def read(self, line: str) -> tuple[int, Entry]:
        """Return the cookie and the entry of a line. Raises ValueError where it is damaged, or of another boot."""
        cookie, words = self._checked(line)
        return cookie, _entry(words)

    def is_whole(self, line: str) -> bool:
        """Return whether this is an undamaged line of this boot."""
        with contextlib.suppress(ValueError):
            return bool(self._checked(line))
        return False

    def is_heading_of_another_boot(self, text: str) -> bool:
        """Return whether all that stands below is of sockets that are gone, whatever its format."""
        found = ANY_HEADING.fullmatch(text)
        return found is not None and found[1] != self._boot

    def _checked(self, line: str) -> tuple[int, str]:
        """Return the cookie and the words of a line. Raises ValueError where its checksum is another."""
        first, _, rest = line.partition(" ")
        words = rest.rpartition(" ")[0]
        cookie = _cookie(first)
        if line != _line(cookie, words, self._check_of(words)):
            raise ValueError(line)
        return cookie, words

    def _check_of(self, words: str) -> int:
        """Return the checksum of the boot and the words, which many lines share."""
        return zlib.crc32(words.encode("ascii", "replace"), self._check)


def read_earlier(line: str) -> tuple[int, Entry]:
    """Return the same of format 1, which did not tell what was inherited. Raises ValueError."""
    first, _, words = line.removesuffix("\n").partition(" ")
    return _cookie(first), _entry(words if words == Mark.LEFT_ALONE.value else f"{words} {Own.UNTOLD:d}")


def is_heading_begun(text: str) -> bool:
    """Return whether it is nothing yet, or a heading that was cut, as by kill -9 in the first write."""
    return START.startswith(text) or CUT_HEADING.fullmatch(text) is not None


def _line(cookie: int, words: str, check: int) -> str:
    """Return a line, with a checksum that also any change of the cookie's digits changes."""
    return f"{cookie} {words} {(cookie * SPREAD ^ check) & LOW:08x}\n"


def _cookie(word: str) -> int:
    """Return the cookie that this word is. Raises ValueError."""
    cookie = int(word)
    if not 0 <= cookie < 1 << 64:
        raise ValueError(word)
    return cookie


def _words(entry: Entry) -> str:
    if isinstance(entry, Mark):
        return entry.value
    *settings, inherited = entry
    each = (f"{on:d} {times.idle} {times.interval} {times.probes}" for on, times in settings)
    return f"{' '.join(each)} {inherited:d}"


def _entry(words: str) -> Entry:
    return MARKS.get(words) or _settings_in(words)


@functools.lru_cache(maxsize=1024)  # most sockets stand as others do
def _settings_in(words: str) -> Armed | PutBack:
    """Raises ValueError."""
    *numbers, inherited = map(int, words.split())
    if len(numbers) == 2 * TIMES:
        return Armed(_settings(*numbers[:TIMES]), _settings(*numbers[TIMES:]), Own(inherited))
    if len(numbers) != TIMES or inherited & Own.UNTOLD:
        raise ValueError(words)
    return PutBack(_settings(*numbers), Own(inherited))


def _settings(on: int, *times: int) -> SocketKeepalive:
    return SocketKeepalive(bool(on), Keepalive(*times))
