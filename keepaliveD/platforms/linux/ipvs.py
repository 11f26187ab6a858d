"""Whether this host balances connections by IPVS, whose own idle timeout nothing here reads.

Source: ip_vs_info_seq_show (net/netfilter/ipvs/ip_vs_ctl.c); a host without the module has no such file.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

SERVICE = "TCP "  # how the line of a service begins
LONGEST = 65536  # characters that are read
NOTE = (
    "IPVS balances connections of this host, and forgets quiet ones on its own (after 15min unless set otherwise: "
    "ipvsadm -l --timeout); nothing else here shows it, so write it as the timeout of a [[path]] if it is the shortest"
)


def notes(root: Path) -> tuple[str, ...]:
    """Return what is to be known of it, for people."""
    with contextlib.suppress(OSError), (root / "proc/net/ip_vs").open(encoding="ascii", errors="replace") as stream:
        if any(line.startswith(SERVICE) for line in stream.read(LONGEST).splitlines()):
            return (NOTE,)
    return ()
