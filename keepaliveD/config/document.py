"""What may be written in the files: sections, keys, and what each takes."""

from __future__ import annotations

import ipaddress
import pwd
import reprlib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from keepaliveD import duration
from keepaliveD.model import FOREVER, MAX_IDLE, MAX_PROBES, IPNetwork

DEFAULT_PATH = "default"
AUTO = "auto"

MAX_UID = 2**32 - 2  # (uid_t) -1 is nobody at all, setresuid(2)
SHORTEST_SPAN = 0.1  # seconds; looking more often would be nothing but looking


def _whole_seconds(seconds: float) -> int:
    if not (1 <= seconds <= MAX_IDLE and seconds == int(seconds)):
        raise ValueError(f"{duration.span(seconds)} is out of range; write whole seconds from 1s to {MAX_IDLE}s")
    return int(seconds)


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError(f"zero is no time; {duration.EXAMPLES}")
    return seconds


def _sensible(seconds: float) -> float:
    if not SHORTEST_SPAN <= seconds < FOREVER:
        raise ValueError(f"{duration.span(seconds)} is out of range; write at least 100ms, and not infinity")
    return seconds


def _network(text: object) -> IPNetwork:
    if not isinstance(text, str):
        raise ValueError('write a network such as "10.20.0.0/16"')
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        right = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{text!r} is no network; write one such as "10.20.0.0/16" or "fd00::/8"') from None
    raise ValueError(f'{text!r} has bits beyond its prefix; did you mean "{right}"?')


def _name(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("write a name of printable characters")
    if text == DEFAULT_PATH:
        raise ValueError(f'"{DEFAULT_PATH}" is what watch.default_timeout stands for; choose another name')
    return text


def _uid(user: object) -> int:
    """A user by name or number."""
    if isinstance(user, bool) or not isinstance(user, int | str):
        raise ValueError('write a user such as "postgres" or 1000')
    if isinstance(user, int) or user.isdecimal():
        return _number_of_user(int(user))
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"{user!r} is no user of this system; write a name of one, or a number") from None


def _number_of_user(uid: int) -> int:
    if not 0 <= uid <= MAX_UID:
        raise ValueError(f"{reprlib.repr(uid)} is no user's number; write 0 to {MAX_UID}")
    return uid


def _several(one_or_more: object) -> object:
    """A value that stands alone is a list of one."""
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def _idle(text: object) -> object:
    return text if text == AUTO else _whole_seconds(duration.parse(text))


WholeSeconds = Annotated[int, BeforeValidator(lambda text: _whole_seconds(duration.parse(text)))]
Timeout = Annotated[float, BeforeValidator(duration.parse), AfterValidator(_positive)]
Span = Annotated[float, BeforeValidator(duration.parse), AfterValidator(_sensible)]
Idle = Annotated[int | Literal["auto"], BeforeValidator(_idle)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Probes = Annotated[int, Field(ge=1, le=MAX_PROBES)]
Pattern = Annotated[str, Field(min_length=1)]  # as in fnmatch(3)
Patterns = Annotated[list[Pattern], BeforeValidator(_several)]
Users = Annotated[list[Annotated[int, BeforeValidator(_uid)]], BeforeValidator(_several)]
AtRisk = Literal["late", "bare", "cut"]
Verdicts = Annotated[list[AtRisk], BeforeValidator(_several)]
Action = Literal["observe", "rearm", "enable"]


class Section(BaseModel):
    """A table of the file: strict types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class KeepaliveSection(Section):
    """[keepalive]: what the whole system uses."""

    apply: bool = True
    idle: WholeSeconds = 180
    interval: WholeSeconds = 20
    probes: Probes = 31
    restore_on_stop: bool = True
    on_drift: Literal["reapply", "yield", "warn"] = "reapply"
    arm: Action = "rearm"
    disarm_on_stop: bool = False
    survive_stop: bool = False


class WatchSection(Section):
    """[watch]: how the sockets are watched."""

    interval: Span = 15.0
    warn_before: Span = 60.0
    engine: Literal["auto", "bpf", "netlink"] = "auto"
    namespaces: Literal["all", "own"] = "all"
    ignore: list[Network] = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
    default_timeout: Timeout = 240.0


class PathSection(Section):
    """[[path]]: what lies between this host and others."""

    name: Annotated[str, AfterValidator(_name)]
    networks: list[Network] = []
    ports: list[Port] = []
    interface: str = ""
    timeout: Timeout | None = None
    preset: str | None = None


class ArmSection(Section):
    """[[arm]]: what to do with the sockets of other programs."""

    action: Action
    unit: Patterns = []
    process: Patterns = []
    container: Patterns = []
    user: Users = []
    networks: list[Network] = []
    ports: list[Port] = []
    path: Patterns = []
    verdict: Verdicts = []
    idle: Idle | None = None
    interval: WholeSeconds | None = None
    probes: Probes | None = None


class Document(Section):
    """All files together."""

    keepalive: KeepaliveSection = KeepaliveSection()
    watch: WatchSection = WatchSection()
    path: list[PathSection] = []
    arm: list[ArmSection] = []


SECTIONS: dict[str, type[Section]] = {
    "keepalive": KeepaliveSection,
    "watch": WatchSection,
    "path": PathSection,
    "arm": ArmSection,
}
REPEATED = ("path", "arm")  # begun with [[...]], as often as one likes


def beginning(section: str) -> str:
    """The line that a section begins with."""
    return f"[[{section}]]" if section in REPEATED else f"[{section}]"
