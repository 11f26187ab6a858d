"""Configurations made at random: `check` accepts each, or says what is wrong; what it accepts, the daemon takes.

Some are the shipped file and others that are valid, damaged; some are written by the grammar of TOML with the words of
this configuration, right or wrong; some are noise. `check` and a daemon over a machine of dictionaries run in this
process; every few are tried with the real programs, too.
"""

from __future__ import annotations

import contextlib
import io
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args
from unittest import mock

from keepaliveD.cli import ctl
from keepaliveD.config import Config, document, load
from keepaliveD.config.catalogue import catalogue
from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.model.errors import Exit
from tests.support import fakes
from tests.support.patience import served
from tests.support.processes import Home
from tests.support.rig import INTERVAL, PROBES, TIME, Namespace
from tests.torture.faults import CTL, DAEMON
from tests.torture.kind import Cases, Counts, Failure, Kind
from tests.torture.program import Listener, ended_well

ROUNDS, SHORT = 20_000, 2000
SAMPLE = 100  # one of so many is tried with the real programs, too
LONGEST_LINE = 1000  # characters; what was written is told only as far as it helps
SLOW = 5.0  # seconds
REFUSED = {Exit.CONFIG, Exit.NOINPUT, Exit.DATAERR}
FOUND = {TIME: 7201, INTERVAL: 73, PROBES: 11}
SHIPPED = Path(__file__).parent.parent.parent / "etc/tcp-keepalived/config.toml"


# making


def uncommented(text: str) -> str:
    """With its examples in force."""
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        lines.append(bare if bare.startswith("[[") or " = " in bare.split("#")[0] else line)
    return "\n".join(lines)


VALID = (
    SHIPPED.read_text(encoding="utf-8"),
    uncommented(SHIPPED.read_text(encoding="utf-8")),
    '[[path]]\nname = "a"\ntimeout = "5min"\n[[arm]]\nunit = ["a*.service", "b.service"]\naction = "enable"\n',
    '[keepalive]\napply = false\n[watch]\ninterval = "1min"\nwarn_before = "1min"\nignore = []\n',
)
COMMON = ("180s", "20s", "5min", "1min")
SPANS = (
    *("60s", "5min", "1h 30min", "infinity", "0s", "-1s", "300years", "1e9s", "60", "0.05s", "100ms"),
    "9" * 400 + "s",
)
ODD = (
    *("60s", "true", "'x'", "1979-05-27T07:32:00Z", "07:32:00", "nan", "inf", "-0.0", "1e999", "0x7fffffffffffffff"),
    *("9" * 20, "9" * 5000, '"' + "x" * 100_000 + '"', '"\\u0000"', '"\\u001b[31m"', '"\u202e"', '""', '"*"', "{}"),
    *("[]", "[[[]]]", "[" * 3000 + "]" * 3000, "{a=" * 500 + "1" + "}" * 500, '["10.0.0.0/8", 5]', '"""\n"""', "-1"),
)
NETWORKS = ("10.0.0.0/8", "10.1.2.3/8", "::/0", "0.0.0.0/0", "fe80::1%eth0", "1.2.3", "10.0.0.0/33", "")
DEPTHS = (3, 100, 2500, 5000)  # of a key with dots
KEYS = sorted({key for section in document.SECTIONS.values() for key in section.model_fields})
Dice = random.Random


def value(key: str, dice: Dice, span: str = "") -> str:
    """Mostly a right one; `span` is what all time spans are, if given."""
    if dice.random() < 0.05:
        return dice.choice(ODD)
    words = {
        "networks": NETWORKS,
        "ignore": NETWORKS,
        "preset": (*catalogue(), "none"),
        "name": ("a", "b", "default", "office"),
        "user": ("root", "0", "nobody", "no-such", "4294967295"),
        "verdict": (*get_args(document.AtRisk), "safe"),
        "action": (*get_args(document.Action), "arm"),
        "arm": get_args(document.Action),
        "on_drift": ("reapply", "yield", "warn", "fight"),
        "engine": ("auto", "bpf", "netlink", "magic"),
        "namespaces": ("all", "own", "none"),
        "unit": ("a*.service", "nightly-backup", "[", "*"),
    }
    if key in words:
        several = key in ("networks", "ignore") or dice.random() < 0.3
        chosen = [f'"{dice.choice(words[key])}"' for _ in range(dice.randint(0, 3) if several else 1)]
        return f"[{', '.join(chosen)}]" if several else chosen[0]
    if key in ("apply", "restore_on_stop", "disarm_on_stop", "survive_stop"):
        return dice.choice(("true", "false"))
    if key == "ports":
        return str([dice.choice((22, 443, 0, 65535, 65536)) for _ in range(dice.randint(0, 2))])
    if key == "probes":
        return str(dice.choice((1, 5, 31, 127, 128, 0)))
    return f'"{span or dice.choice(SPANS if dice.random() < 0.2 else COMMON)}"'


def written(dice: Dice) -> bytes:
    """By the grammar: sections that there are, and keys that may belong to them."""
    lines = []
    span = dice.choice(SPANS) if dice.random() < 0.3 else ""
    for _ in range(dice.randint(0, 5)):
        section = dice.choice([*document.SECTIONS]) if dice.random() > 0.03 else dice.choice(("wath", "keepalive.more"))
        doubled = (section in document.REPEATED) != (dice.random() < 0.02)
        lines.append(f"[[{section}]]" if doubled else f"[{section}]")
        fields = list(document.SECTIONS[section].model_fields) if section in document.SECTIONS else KEYS
        for field in dice.sample(fields, dice.randint(0, min(5, len(fields)))):
            key = dice.choice(KEYS) if dice.random() < 0.03 else field
            lines.append(f"{key} = {value(key, dice, span)}")
    if dice.random() < 0.02:
        place = dice.choice((0, len(lines)))
        parts = [dice.choice(("keepalive.idle", "arm", "a")), *["a"] * dice.choice(DEPTHS)]
        lines.insert(place, f"{'.'.join(parts)} = 1")
    return "\n".join(lines).encode()


def mutated(dice: Dice) -> bytes:
    """A valid one with a few damages."""
    octets = dice.choice(VALID).encode()
    for _ in range(dice.randint(1, 4)):
        octets = dice.choice(DAMAGES)(octets, dice)
    return octets


def noise(dice: Dice) -> bytes:
    """Any bytes, or those that TOML is made of."""
    length = dice.choice((0, 1, 10, 1000))
    if dice.random() < 0.5:
        return dice.randbytes(length)
    return "".join(dice.choices("[]{}=\"'.,#\n\t 0a\\u-+_:", k=length)).encode()


def _line(octets: bytes, dice: Dice) -> bytes:
    """One line goes, comes twice, changes its place, or gets another value."""
    lines = octets.split(b"\n")
    place, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    match dice.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(other, lines[place])
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case _:
            settings = [number for number, line in enumerate(lines) if b" = " in line and not line.startswith(b"#")]
            if settings:
                place = dice.choice(settings)
                key = lines[place].split(b" = ")[0]
                lines[place] = key + b" = " + value(key.decode("utf-8", "replace"), dice).encode("utf-8", "replace")
    return b"\n".join(lines)


def _octet(octets: bytes, dice: Dice) -> bytes:
    """One byte goes, comes, or changes."""
    place = dice.randrange(len(octets) + 1)
    return octets[:place] + dice.randbytes(dice.randint(0, 1)) + octets[place + dice.randint(0, 1) :]


def _encoded(octets: bytes, dice: Dice) -> bytes:
    """As an editor of another system would save it."""
    text = octets.decode("utf-8", "replace")
    encoding = dice.choice(("utf-8-sig", "utf-16", "latin-1"))
    if dice.random() < 0.5:
        return text.replace("\n", "\r\n").encode()
    return f"{text}# \u00fc\n".encode(encoding, "replace")


def _cut(octets: bytes, dice: Dice) -> bytes:
    return octets[: dice.randrange(len(octets) + 1)]


def _joined(octets: bytes, dice: Dice) -> bytes:
    return octets + b"\n" + dice.choice(VALID).encode()


DAMAGES: tuple[Callable[[bytes, Dice], bytes], ...] = (*[_line] * 4, _octet, _octet, _encoded, _cut, _joined)
MAKERS = (written, written, written, mutated, mutated, mutated, mutated, noise)


# trying


def one_round(seed: str, directory: Path) -> Counts:
    """One configuration, maybe with another in its config.d."""
    dice, number = random.Random(seed), int(seed)
    home = Home(directory, "")
    home.file.write_bytes(dice.choice(MAKERS)(dice))
    if dice.random() < 0.1:
        (directory / "config.d").mkdir()
        (directory / "config.d/10-more.toml").write_bytes(dice.choice(MAKERS)(dice))
    status = checked(home.file)
    counts: Counts = Counter({"accepted" if status == Exit.OK else "refused": 1})
    if number % SAMPLE == 0:
        checked_by_program(home.file, status)
        counts["by the real check"] += 1
    if status == Exit.OK:
        config = load(home.file)
        lived(config, directory)
        if number % SAMPLE == 1:
            lived_by_program(home)
            counts["by the real daemon"] += 1
    return counts


def checked(file: Path) -> int:
    """What `keepalivectl check` says in this process."""
    out, err = io.StringIO(), io.StringIO()
    begin = served()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = ctl.main(["check", str(file)])
    if (seconds := served() - begin) > SLOW:
        raise Failure(f"check took {seconds:.1f} s")
    examine(status, out.getvalue(), err.getvalue(), file)
    return status


def examine(status: int, out: str, err: str, file: Path) -> None:
    """Valid, with what it means; or a line for each problem."""
    if status == Exit.OK:
        if not out.startswith(f"valid: {file}"):
            raise Failure(f"check ended with 0 and said {out[:200]}")
        beginning = "warning: "
    else:
        if status not in REFUSED or not err:
            raise Failure(f"check ended with {status}: {err[:200]}")
        beginning = "keepalivectl: "
    for line in [*out.splitlines(), *err.splitlines()]:
        if len(line) > LONGEST_LINE:
            raise Failure(f"check said a line of {len(line):,} characters: {line[:200]}...")
    for line in err.split("\n")[:-1]:
        if not line.startswith(beginning) or not line.isprintable():
            raise Failure(f"check ended with {status} and said the line {line[:300]!r}")


def lived(config: Config, directory: Path) -> None:
    """A daemon over dictionaries takes it: it starts, looks again, is reloaded, and stops."""
    stage = fakes.Stage(directory / "state", [None, signal.SIGHUP, None], config)
    try:
        stage.run()
    except Exception as error:
        raise Failure(f"check accepts it, and the daemon ends with {type(error).__name__}: {error}") from error
    if config.restore_on_stop and stage.tuner.values != fakes.KERNEL:
        raise Failure(f"{stage.tuner.values} stands in the end")


def checked_by_program(file: Path, expected: int) -> None:
    """The real one says the same."""
    with Namespace() as host:
        done = host.run(*CTL, "check", str(file))
    ended_well(done.returncode, done.stderr)
    examine(done.returncode, done.stdout, done.stderr, file)
    if done.returncode != expected:
        raise Failure(f"check ends with {done.returncode}, and with {expected} within the torture")


def lived_by_program(home: Home) -> None:
    """The real daemon starts with it, in a namespace of its own, and ends well."""
    (home.file.parent / "config.d").mkdir(exist_ok=True)
    (home.file.parent / "config.d/zz.toml").write_text('[watch]\nnamespaces = "own"\n', encoding="ascii")
    with Namespace() as host:
        host.keepalive = FOUND
        with host.running(*DAEMON, *home.options) as daemon:
            listener = Listener(daemon)
            started = listener.hear(MESSAGE_IDS["started"])
            daemon.send_signal(signal.SIGTERM)
            status = listener.end()
        ended_well(status, listener.said)
        if not started or status:
            raise Failure(f"check accepts it, and the daemon ends with {status}: {listener.last_words}")
        if host.keepalive != FOUND:
            home.restore(host)
        if host.keepalive != FOUND:
            raise Failure(f"{host.keepalive} stands instead of {FOUND}")


@contextlib.contextmanager
def begin() -> Iterator[Cases]:
    """The command line is the same each time: to make its parser takes as long as to check a configuration."""
    parser = ctl.parser(("check",))
    with mock.patch.object(ctl, "parser", return_value=parser):
        yield Cases(lambda: map(str, range(ROUNDS)), lambda: map(str, range(SHORT)), one_round)


KIND = Kind("configurations", "check says a line for each problem; what it accepts the daemon takes", begin)
