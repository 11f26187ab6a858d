"""Names of systemd units, as somebody types them."""

from __future__ import annotations

SUFFIXES = (  # systemd.unit(5)
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
)
WILDCARDS = ("*", "?", "]")  # fnmatch(3)


def with_suffix(pattern: str) -> str:
    """The pattern with `.service` where it has no suffix, as systemctl(1) completes a name."""
    return pattern if pattern.endswith((*SUFFIXES, *WILDCARDS)) else f"{pattern}.service"
