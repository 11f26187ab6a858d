"""The files in /etc: read, merged, and checked into model types; pydantic stops here.

Scalars: the later file wins; `[[path]]` entries accumulate.
Every error says the file, the key, what is wrong and what would be right.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.resources
import ipaddress
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from keepaliveD import duration
from keepaliveD.errors import ConfigError, NoInput
from keepaliveD.model import FOREVER, IPNetwork, Keepalive, Path
from keepaliveD.policy.sysctls import OnDrift
from keepaliveD.text import printable, quoted

DEFAULT_FILE = File("/etc/tcp-keepalived/config.toml")
DROP_INS = "config.d"  # beside the file
DEFAULT_PATH = "default"

MAX_IDLE = 32767  # seconds, TCP_KEEPIDLE and TCP_KEEPINTVL (MAX_TCP_KEEPIDLE, include/net/tcp.h)
SHORTEST_SPAN = 0.1  # seconds; looking more often would be nothing but looking
MAX_PROBES = 127  # TCP_KEEPCNT (MAX_TCP_KEEPCNT)


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


WholeSeconds = Annotated[int, BeforeValidator(lambda text: _whole_seconds(duration.parse(text)))]
Timeout = Annotated[float, BeforeValidator(duration.parse), AfterValidator(_positive)]
Span = Annotated[float, BeforeValidator(duration.parse), AfterValidator(_sensible)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A table of the file: strict types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class KeepaliveSection(Section):
    """[keepalive]: what the whole system uses."""

    apply: bool = True
    idle: WholeSeconds = 180
    interval: WholeSeconds = 20
    probes: Annotated[int, Field(ge=1, le=MAX_PROBES)] = 31
    restore_on_stop: bool = True
    on_drift: Literal["reapply", "yield", "warn"] = "reapply"


class WatchSection(Section):
    """[watch]: how the sockets are watched."""

    interval: Span = 15.0
    warn_before: Span = 60.0
    engine: Literal["auto", "netlink"] = "auto"
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


class Document(Section):
    """All files together."""

    keepalive: KeepaliveSection = KeepaliveSection()
    watch: WatchSection = WatchSection()
    path: list[PathSection] = []


@dataclass(frozen=True, slots=True)
class Config:
    """What the administrator wants. Durations are seconds.

    The first of `paths` is the default one; `files` are those that were read.
    """

    keepalive: Keepalive
    apply: bool
    restore_on_stop: bool
    on_drift: OnDrift
    interval: float
    warn_before: float
    all_namespaces: bool
    ignore: tuple[IPNetwork, ...]
    paths: tuple[Path, ...]
    files: tuple[File, ...] = ()

    @property
    def selects_by_interface(self) -> bool:
        """Whether any path names an interface."""
        return any(path.interface for path in self.paths)


Key = tuple[str | int, ...]

SECTIONS: dict[str, tuple[type, str]] = {  # of what kind each is, and how it begins
    "keepalive": (dict, "[keepalive]"),
    "watch": (dict, "[watch]"),
    "path": (list, "[[path]]"),
}


def load(file: File | None = None) -> Config:
    """Read `file` (without one: DEFAULT_FILE, if it is there) and the config.d beside it.

    Raises ConfigError with a line for every wrong key, NoInput where a file cannot be read.
    """
    merged: dict[str, Any] = {}
    origins: dict[Key, File] = {}
    files = tuple(_files(file))
    for each in files:
        _merge(merged, origins, _read(each), each)
    try:
        document = Document.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(details, origins) for details in error.errors())) from None
    _check_together(document, origins)
    return _config(document, files, origins)


def _files(file: File | None) -> Iterator[File]:
    main = file or DEFAULT_FILE
    drop_ins = main.parent / DROP_INS
    if file is not None or _is_there(main):
        yield main
    if _is_there(drop_ins):
        with _reading(drop_ins):
            yield from sorted(each for each in drop_ins.iterdir() if each.suffix == ".toml")


def _is_there(file: File) -> bool:
    """Unlike Path.exists(), this tells a file that is not there from one that may not be seen."""
    with _reading(file):
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _read(file: File) -> dict[str, Any]:
    with _reading(file):
        try:
            return tomllib.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number or a nesting without end
            raise ConfigError(f"{file}: not TOML: {error}") from error


@contextlib.contextmanager
def _reading(file: File) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoInput(f"{file}: cannot be read: {error.strerror}") from error


def _merge(merged: dict[str, Any], origins: dict[Key, File], data: Mapping[str, Any], file: File) -> None:
    """Add one file's content, remembering where each key came from.

    A section of the wrong kind is refused here, or another file's would cover it up.
    """
    for section, content in data.items():
        if not isinstance(content, SECTIONS.get(section, (object, ""))[0]):
            raise ConfigError(f"{file}: {section}: begin it with {SECTIONS[section][1]}")
        origins[(section,)] = file
        if isinstance(content, dict) and isinstance(merged.setdefault(section, {}), dict):
            merged[section] |= content
            origins |= {(section, key): file for key in content}
        elif isinstance(content, list) and isinstance(merged.setdefault(section, []), list):
            start = len(merged[section])
            merged[section] += content
            origins |= {(section, start + number): file for number in range(len(content))}
        else:
            merged[section] = content


def _origin(location: Key, origins: Mapping[Key, File]) -> File | str:
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            return origins[location[:length]]
    return "configuration"


def _label(location: Key) -> str:
    """A key as people write it: path[2].timeout, entries counted from 1."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{quoted(part)}" if text else quoted(part)
    return text


def _problem(location: Key, origins: Mapping[Key, File], problem: str) -> str:
    return f"{_origin(location, origins)}: {_label(location)}: {problem}"


def _explain(details: ErrorDetails, origins: Mapping[Key, File]) -> str:
    """One line for one of pydantic's findings."""
    location: Key = tuple(details["loc"])
    context = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            problem = str(context["error"])
        case "extra_forbidden":
            problem = _unknown_key(location)
        case "missing":
            problem = "is missing"
        case "literal_error":
            problem = f"{_shown(details['input'])} is not one of {context['expected']}"
        case "greater_than_equal" | "less_than_equal":
            limits = {"probes": f"1 to {MAX_PROBES}"}.get(str(location[-1]), "1 to 65535")
            problem = f"{_shown(details['input'])} is out of range; write {limits}"
        case "model_type":
            problem = "begin it with [[path]]"  # the other sections were checked as they were read
        case _:
            problem = f"{_shown(details['input'])} is of the wrong kind: {details['msg'].lower()}"
    return _problem(location, origins, problem)


def _shown(value: object) -> str:
    """What was written, as far as it can be shown in a line."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _unknown_key(location: Key) -> str:
    section: Any = Document
    for part in location[:-1]:
        if isinstance(part, str):
            section = {"keepalive": KeepaliveSection, "watch": WatchSection, "path": PathSection}[part]
    known = sorted(section.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return "unknown key; " + (f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}")


def _check_together(document: Document, origins: Mapping[Key, File]) -> None:
    """What no key can say alone."""
    problems = []
    keepalive, watch = document.keepalive, document.watch
    if keepalive.interval > keepalive.idle:
        problems.append(
            _problem(
                ("keepalive", "interval"),
                origins,
                f"{keepalive.interval}s is longer than idle ({keepalive.idle}s); "
                "the kernel would then probe only at every interval, so write at most idle",
            )
        )
    if watch.warn_before < watch.interval:
        problems.append(
            _problem(
                ("watch", "warn_before"),
                origins,
                f"{duration.span(watch.warn_before)} is shorter than watch.interval "
                f"({duration.span(watch.interval)}), and a connection could be cut between two looks; "
                f"write at least {duration.span(watch.interval)}",
            )
        )
    problems += _check_paths(document, origins)
    if problems:
        raise ConfigError("\n".join(problems))


def _check_paths(document: Document, origins: Mapping[Key, File]) -> Iterator[str]:
    first: dict[str, int] = {}
    for number, path in enumerate(document.path):
        if path.name in first:
            other = _origin(("path", first[path.name]), origins)
            yield _problem(
                ("path", number, "name"), origins, f'"{path.name}" is taken by path[{first[path.name] + 1}] in {other}'
            )
        first.setdefault(path.name, number)
        if (path.timeout is None) == (path.preset is None):
            yield _problem(("path", number), origins, f'"{path.name}" needs either a timeout or a preset')
        elif path.preset is not None and path.preset not in catalogue():
            close = difflib.get_close_matches(path.preset, catalogue(), n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(catalogue())}"
            preset = f'"{printable(path.preset)}"'
            yield _problem(("path", number, "preset"), origins, f"{preset} is not in the catalogue; {hint}")


@functools.cache
def catalogue() -> dict[str, float]:
    """Timeouts in seconds of products, by the name of their preset."""
    text = importlib.resources.files("keepaliveD").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {name: float(entry["timeout"]) for name, entry in tomllib.loads(text).items()}


def _config(document: Document, files: tuple[File, ...], origins: Mapping[Key, File]) -> Config:
    keepalive, watch = document.keepalive, document.watch
    return Config(
        keepalive=Keepalive(keepalive.idle, keepalive.interval, keepalive.probes),
        apply=keepalive.apply,
        restore_on_stop=keepalive.restore_on_stop,
        on_drift=OnDrift(keepalive.on_drift),
        interval=watch.interval,
        warn_before=watch.warn_before,
        all_namespaces=watch.namespaces == "all",
        ignore=tuple(watch.ignore),
        paths=(
            Path(DEFAULT_PATH, watch.default_timeout, "watch.default_timeout"),
            *(_path(section, _origin(("path", number), origins)) for number, section in enumerate(document.path)),
        ),
        files=files,
    )


def _path(section: PathSection, file: File | str) -> Path:
    if section.preset is not None:
        timeout, origin = catalogue()[section.preset], f"preset {section.preset}"
    else:
        timeout, origin = section.timeout or FOREVER, f"configured in {file}"
    return Path(section.name, timeout, origin, tuple(section.networks), tuple(section.ports), section.interface)
