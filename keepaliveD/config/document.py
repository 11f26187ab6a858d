"""What may be written in the files: sections, keys, and what each takes."""

from __future__ import annotations

import datetime
import difflib
import ipaddress
import pwd
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from keepaliveD.config.catalogue import catalogue
from keepaliveD.config.units import with_suffix
from keepaliveD.model import duration
from keepaliveD.model.causes import BY_KEY
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.keepalive import MAX_IDLE, MAX_PROBES
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.text import shortened, shown

DEFAULT_PATH = "default"
AUTO = "auto"
UNEXPECTED = "unexpected"  # of causes: all but those that programs and peers bring about in their daily work
ALL_CAUSES = "all"

MAX_UID = 2**32 - 2  # (uid_t) -1 is nobody at all, setresuid(2)
LONGEST_NAME = 100  # characters; a name stands in every warning
LONGEST_PATTERN = 255  # characters, as many as a unit's name has at most (UNIT_NAME_MAX, systemd.unit(5))
LONGEST_INTERFACE = 31  # characters, LIFNAMSIZ of Solaris; Linux has 15 (IFNAMSIZ)


class Limits(NamedTuple):
    """The shortest and the longest time span of a setting, as people write them."""

    least: str
    most: str

    def __str__(self) -> str:
        return f"{self.least} to {self.most}"

    def check(self, text: object) -> float:
        """Seconds in a time span between the limits. Raises ValueError."""
        seconds = duration.parse(text)
        if not duration.parse(self.least) <= seconds <= duration.parse(self.most):
            raise ValueError(f"{shown(text)} is out of range; write {self}")
        return seconds


INTERVAL = Limits("100ms", "1h")  # more often is nothing but scanning; more rarely warns of nothing in time
WARN_BEFORE = Limits("100ms", "1d")  # half of the longest timeout that a product of the catalogue has is 2.5 days
TIMEOUT = Limits("100ms", "10years")  # longer than any host stays up: that is "infinity"
WHOLE = f"whole seconds from 1s to {MAX_IDLE}s"
NO_LIMIT = "infinity"


def _whole_seconds(text: object) -> int:
    seconds = duration.parse(text)
    if not (1 <= seconds <= MAX_IDLE and seconds == int(seconds)):
        raise ValueError(f"{shown(text)} is out of range; write {WHOLE}")
    return int(seconds)


def _timeout(text: object) -> float:
    if duration.parse(text) == FOREVER:
        return FOREVER
    try:
        return TIMEOUT.check(text)
    except ValueError as error:
        raise ValueError(f'{error}, or "{NO_LIMIT}"') from None


def _network(text: object) -> IPNetwork:
    if not isinstance(text, str):
        raise ValueError('write a network such as "10.20.0.0/16"')
    try:
        return ipaddress.ip_network(_without_zone(text))
    except ValueError:
        pass
    try:
        right = ipaddress.ip_network(_without_zone(text), strict=False)
    except ValueError:
        raise ValueError(f'{shown(text)} is not a network; write one such as "10.20.0.0/16" or "fd00::/8"') from None
    raise ValueError(f'{shown(text)} has bits beyond its prefix; did you mean "{right}"?')


def _without_zone(text: str) -> str:
    """An address's interface (fe80::1%eth0) is no part of a network. Raises ValueError."""
    if "%" in text:
        raise ValueError
    return text


def _name(text: str) -> str:
    if not text or not text.isprintable() or len(text) > LONGEST_NAME:
        raise ValueError(f"{shown(text)} is not a name; write 1 to {LONGEST_NAME} printable characters")
    if text == DEFAULT_PATH:
        raise ValueError(f'"{DEFAULT_PATH}" is reserved for watch.default_timeout; choose another name')
    return text


def _interface(text: str) -> str:
    if len(text) > LONGEST_INTERFACE or not text.isprintable() or any(c.isspace() or c == "/" for c in text):
        raise ValueError(f'{shown(text)} is not an interface; write a name such as "eth1"')
    return text


def _date(value: object) -> datetime.date:
    if type(value) is datetime.date:
        return value
    raise ValueError(f"{shown(value)} is not a date; write one without quotes and without a time, such as 2026-11-28")


def _uid(user: object) -> int:
    """A user by name or number."""
    if isinstance(user, bool) or not isinstance(user, int | str):
        raise ValueError('write a user such as "postgres" or 1000')
    if isinstance(user, int) or (user.isascii() and user.isdigit()):
        return _number_of_user(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"{shown(user)} is not a user of this system; write the name of one, or a number") from None


def _number_of_user(user: int | str) -> int:
    digits = user.lstrip("0") if isinstance(user, str) else ""
    if len(digits) <= len(str(MAX_UID)) and 0 <= (uid := int(user)) <= MAX_UID:
        return uid
    raise ValueError(f"{shown(user)} is not a user id; write 0 to {MAX_UID}")


def _several(one_or_more: object) -> object:
    """A value that stands alone is a list of one."""
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def _idle(text: object) -> object:
    return text if text == AUTO else _whole_seconds(text)


def _preset(name: str) -> str:
    if name not in catalogue():
        close = difflib.get_close_matches(shortened(name).lower(), catalogue(), n=1)
        hint = f"did you mean {close[0]}?" if close else "keepalivectl presets lists it"
        raise ValueError(f"{shown(name)} is not in the catalogue; {hint}")
    return name


def _ends(text: str) -> str:
    """A cause of an end, or a name for several."""
    if text not in (ALL_CAUSES, UNEXPECTED, *BY_KEY):
        close = difflib.get_close_matches(shortened(text), BY_KEY, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f'{shown(text)} is not a cause; write "{UNEXPECTED}", "{ALL_CAUSES}" or causes{hint}')
    return text


WholeSeconds = Annotated[int, BeforeValidator(_whole_seconds)]
Timeout = Annotated[float, BeforeValidator(_timeout)]
Interval = Annotated[float, BeforeValidator(INTERVAL.check)]
WarnBefore = Annotated[float, BeforeValidator(WARN_BEFORE.check)]
Idle = Annotated[int | Literal["auto"], BeforeValidator(_idle)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Probes = Annotated[int, Field(ge=1, le=MAX_PROBES)]
Pattern = Annotated[str, Field(min_length=1, max_length=LONGEST_PATTERN)]  # as in Python's fnmatch
Interface = Annotated[str, AfterValidator(_interface)]
Patterns = Annotated[list[Pattern], BeforeValidator(_several)]
Units = Annotated[list[Annotated[Pattern, AfterValidator(with_suffix)]], BeforeValidator(_several)]
Date = Annotated[datetime.date, BeforeValidator(_date)]
Users = Annotated[list[Annotated[int, BeforeValidator(_uid)]], BeforeValidator(_several)]
AtRisk = Literal["late", "bare", "cut"]
Verdicts = Annotated[list[AtRisk], BeforeValidator(_several)]
Ends = Annotated[list[Annotated[str, AfterValidator(_ends)]], BeforeValidator(_several)]
PresetName = Annotated[str, AfterValidator(_preset)]
Counted = Literal["packets", "data"]
Readers = Literal["group", "everyone"]
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
    keep_stricter: bool = True
    arm: Action = "rearm"
    disarm_on_stop: bool = False
    survive_stop: bool = False


class WatchSection(Section):
    """[watch]: how the sockets are watched."""

    interval: Interval = 15.0
    warn_before: WarnBefore = 60.0
    engine: Literal["auto", "bpf", "netlink"] = "auto"
    namespaces: Literal["all", "own"] = "all"
    ignore: list[Network] = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
    default_timeout: Timeout = 240.0
    readers: Readers = "group"


class AutopsySection(Section):
    """[autopsy]: what ended connections."""

    enabled: bool = True
    log: Ends = [UNEXPECTED]
    unit: Units = []
    user: Users = []


class PathSection(Section):
    """[[path]]: the network between this host and others."""

    name: Annotated[str, AfterValidator(_name)]
    networks: list[Network] = []
    ports: list[Port] = []
    interface: Interface = ""
    timeout: Timeout | None = None
    measured: Date | None = None
    preset: PresetName | None = None
    counts: Counted | None = None


class ArmSection(Section):
    """[[arm]]: what to do with the sockets of other programs."""

    action: Action
    unit: Units = []
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
    autopsy: AutopsySection = AutopsySection()
    path: list[PathSection] = []
    arm: list[ArmSection] = []


SECTIONS: dict[str, type[Section]] = {
    "keepalive": KeepaliveSection,
    "watch": WatchSection,
    "autopsy": AutopsySection,
    "path": PathSection,
    "arm": ArmSection,
}
REPEATED = ("path", "arm")  # begun with [[...]], as often as one likes


def beginning(section: str) -> str:
    """The line that a section begins with."""
    return f"[[{section}]]" if section in REPEATED else f"[{section}]"
