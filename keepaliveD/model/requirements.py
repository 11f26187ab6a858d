"""What each feature requires of privileges and of the kernel: one table for messages, the manual and the handbook."""

from __future__ import annotations

from typing import NamedTuple


class Requirement(NamedTuple):
    """What is required `to` do something: all of these capabilities, a kernel of this version or later, and more."""

    to: str
    capabilities: tuple[str, ...] = ()
    or_admin: bool = False  # whether CAP_SYS_ADMIN replaces all of them
    linux: str = ""
    besides: str = ""

    @property
    def named(self) -> str:
        """Return the capabilities as a list in a sentence, without what may replace them."""
        *most, last = self.capabilities
        return f"{', '.join(most)} and {last}" if most else last

    @property
    def privileges(self) -> str:
        """Return the capabilities and what may replace them; "no privilege" where there are none."""
        if not self.capabilities:
            return "no privilege"
        return f"{self.named}, or CAP_SYS_ADMIN" if self.or_admin else self.named


TUNE = Requirement("set the system's keepalive", ("CAP_NET_ADMIN",), besides="root may do so without it")
WATCH = Requirement("watch the daemon's own network namespace", linux="4.2")
NAMESPACES = Requirement("watch other network namespaces", ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"))
FIND_NAMESPACES = Requirement("find the network namespaces of other users' processes", ("CAP_SYS_PTRACE",))
UNITS = Requirement("name the units of sockets", linux="5.8")
OWNERS = Requirement("name the processes of other users", ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"))
FIREWALL = Requirement("ask this host's own firewall", ("CAP_NET_ADMIN",))
ARM = Requirement("arm open connections by netlink", ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"), linux="5.6")
BPF = Requirement(
    "read and arm sockets by BPF", ("CAP_BPF", "CAP_PERFMON"), or_admin=True, linux="5.15", besides="libbpf 1"
)
WALK = BPF._replace(to="read all network namespaces by BPF in one pass", linux="6.2")
CONSULT = BPF._replace(
    to="ask this host's own firewall by BPF", capabilities=("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"), linux="5.18"
)
CONNECT = Requirement(
    "arm at connect",
    ("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"),
    or_admin=True,
    linux="5.10",
    besides='libbpf 1; watch.namespaces = "all"',
)
RECALL = BPF._replace(to="read what was armed at connect", linux=CONNECT.linux)
DEATHS = Requirement(
    "explain what ended connections",
    CONNECT.capabilities,
    linux="5.12",
    besides="libbpf 1; CAP_SYS_ADMIN replaces CAP_BPF and CAP_PERFMON",
)
ROUTERS = Requirement(
    "name the router behind unreachable",
    ("CAP_NET_RAW",),
    besides="RestrictAddressFamilies=AF_INET AF_INET6 and IPAddressAllow=any in the unit",
)

ALL = (
    *(TUNE, WATCH, NAMESPACES, FIND_NAMESPACES, UNITS, OWNERS, FIREWALL, ARM, BPF, WALK, CONNECT, RECALL, DEATHS),
    ROUTERS,
)
