"""keepalivectl deaths: which connections ended, of what, and what would have prevented it."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files
from keepaliveD.cli.asking.asking import ask, control_socket
from keepaliveD.cli.history.history import add_options, as_json, when
from keepaliveD.cli.history.selected_deaths import concerning
from keepaliveD.cli.printing import table
from keepaliveD.cli.printing.fitting import tell, terminal_width, wrapped
from keepaliveD.cli.targets.named import described, is_name
from keepaliveD.cli.targets.nearest import did_you_mean
from keepaliveD.log import history
from keepaliveD.log.entries.deaths import DIFFERS, EXPLANATIONS, confidence_words, foretold_words
from keepaliveD.log.history import ID_LENGTH, Record
from keepaliveD.model import duration
from keepaliveD.model.autopsy import NOT_EXPLAINED
from keepaliveD.model.causes import BY_KEY, Cause, Foretold
from keepaliveD.model.errors import KernelError, Misuse, NoInput, NotPermitted, Unsupported
from keepaliveD.model.text import printable, quoted, shown
from keepaliveD.policy.autopsy.observations import OBSERVATIONS
from keepaliveD.records.history import History

NEWEST = 20  # entries that are listed one by one
FEW = 8  # identifiers that are named
SHORTEST = 4  # characters of an identifier, as with git: a number that somebody counted is shorter
# headings, and their ranks: in a narrow terminal the lowest is left out first
GROUPS = {"COUNT": 5, "LAST": 2, "CAUSE": 4, "FORETOLD": 0, "UNIT": 3, "PATH": 1}
INDENT = 4  # columns of what goes on below
LAST = "last"  # the newest entry
SINGLE = {"ID": 7, "WHEN": 4, "CAUSE": 6, "SURE": 1, "LOCAL": 0, "REMOTE": 5, "PROCESS": 2, "UNIT": 3}
OTHERS = {cause.key: cause for cause in Cause}
DROP_INS = ("bpf.conf", "packets.conf")  # of the unit
ANSWERS = {foretold.key: foretold for foretold in Foretold}
LINES_FOLLOW = re.compile(r"to prevent it \((.*)\), configure:$")  # to the log, whose next lines they are
SEE_BELOW = r"\1; see remedy below"


def add_deaths(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="only connections of this unit, process or process id, with this HOST or HOST:PORT at either end, or with "
        "this cookie",
    )
    add_options(parser, "those that ended")
    parser.add_argument(
        "--explain",
        metavar="ID",
        type=_id,
        help="show all that was seen of the entry with this ID, or whose ID alone begins so, or of the newest entry "
        f"({LAST})",
    )
    arguments.add_state(parser)
    parser.set_defaults(command=show)


def show(options: argparse.Namespace, root: Path, read: history.Reader | None = None) -> None:
    """Print what ended. Raises Unsupported, NotPermitted, StateError, NoInput, Misuse."""
    try:
        ended, hidden = history.ended(options.since, read, History(options.state_dir))
    except Unsupported as refusal:
        raise its_files.elsewhere(options.state_dir, root) or refusal from refusal
    if hidden:
        tell("note", f"not all is listed: {hidden}")
    records = ended if options.target is None else concerning(options.target, ended)
    if options.explain is not None:
        records = _called(options.explain, records, options.target, ended)
    if options.json:
        print(as_json(records))
    elif options.explain is not None:
        print("\n\n".join("\n".join(explanation(record)) for record in records))
    elif records:
        print("\n".join(overview(records)))
    else:
        print(_nothing(options.target, ended) + _not_seen(_unseen(root)) + _near(options.target, ended))


def _called(identifier: str, records: list[Record], target: str | None, ended: Sequence[Record]) -> list[Record]:
    """Return the entry with this identifier, or by a rare chance those with it, or the newest.

    Raises NoInput; Misuse where several identifiers begin so.
    """
    found = records[:1] if identifier == LAST else [each for each in records if each.id.startswith(identifier)]
    names = list(dict.fromkeys(record.id for record in found))
    if len(names) > 1:
        raise Misuse(f"--explain {identifier}: {_begin_so(names)}; write more of the one that you mean")
    if found:
        return found
    if not records:
        raise NoInput(f"--explain {identifier}: {_nothing(target, ended)}{_near(target, ended)}")
    of_target = f" about {printable(described(target))}" if target is not None else ""
    raise NoInput(
        f"--explain {identifier}: no entry{of_target} has this identifier; see keepalivectl deaths, or --since"
    )


def _begin_so(names: Sequence[str]) -> str:
    others = [f"and {len(names) - FEW} others"] if len(names) > FEW else []
    return f"{len(names)} entries begin so: {', '.join([*names[:FEW], *others])}"


def _nothing(target: str | None, ended: Sequence[Record]) -> str:
    """Return what to say where no entry is about the target, or where there is none at all."""
    if target is None:
        return "no entries about ended connections"
    if not ended:
        return f"no entries about {printable(described(target))}, nor about any other ended connection"
    others = "1 entry is" if len(ended) == 1 else f"{len(ended)} entries are"
    return f"no entries about {printable(described(target))}; {others} about others, see keepalivectl deaths"


def _near(target: str | None, ended: Sequence[Record]) -> str:
    """Return the end of a sentence that offers the units and processes of entries that may have been meant."""
    if target is None or not is_name(target):
        return ""
    return did_you_mean(target, [record[field] for record in ended for field in ("UNIT", "PROCESS")])


def _unseen(root: Path) -> str:
    """Return what the daemon cannot see of ends; where none tells, what the last one could not at its start."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        answer = ask(control_socket(root), "Status")
        if "unseen" in answer:
            return str(answer["unseen"])
    return history.unseen()


def _not_seen(unseen: str) -> str:
    """Return what is not listed because the daemon does not see it, and what would help."""
    what, _, why = unseen.partition(": ")
    if what in ("", NOT_EXPLAINED):
        return ""
    helping = " or ".join(name for name in DROP_INS if name in why)
    if not helping:
        return f"; {printable(unseen)}"
    return f"; {printable(what)}; the drop-in {helping} helps, see keepalivectl status"


def overview(records: Sequence[Record]) -> Iterator[str]:
    """Yield the groups of what ended alike, then the newest entries one by one."""
    yield table.columns(tuple(GROUPS), _groups(records), tuple(GROUPS.values()), option="--json")
    yield ""
    rows = [(record.id, *_cells(record)) for record in records[:NEWEST]]
    yield table.columns(tuple(SINGLE), rows, tuple(SINGLE.values()), option="--json")
    if len(records) > NEWEST:
        yield f"and {len(records) - NEWEST} older"
    yield from wrapped(["keepalivectl deaths --explain ID shows all that was seen of an entry"], terminal_width(), 0)


def explanation(record: Record) -> Iterator[str]:
    """Yield all that is known of one entry, in lines that fit the terminal, unless they are configuration."""
    remedy = [f"  {line}".rstrip() for line in record["REMEDY"].splitlines()]
    in_words = remedy if len(remedy) == 1 else []
    yield from wrapped([*_explained(record), "remedy:", *in_words], terminal_width(), INDENT)
    if not in_words:
        yield from remedy


def _explained(record: Record) -> Iterator[str]:
    cause = BY_KEY.get(record["CAUSE"], Cause.UNKNOWN)
    others = [OTHERS[key] for key in record["OTHER_CAUSES"].split() if key in OTHERS]
    message, *_ = record.fields.get("MESSAGE", "").splitlines() or [""]
    yield f"{when(record)} {LINES_FOLLOW.sub(SEE_BELOW, message)}"
    yield ""
    yield f"cause: {cause.label} ({confidence_words(_number_in(record['CONFIDENCE']), others)})"
    yield f"  {EXPLANATIONS[cause]}"
    for line in record["EVIDENCE"].splitlines():
        yield f"  seen: {line}"
    for other in others:
        yield f"  or: {other.label}; what would tell: {OBSERVATIONS.get((cause, other), 'nothing on this host')}"
    yield f"forecast: {_forecast(record, cause, others)}"


def _forecast(record: Record, cause: Cause, others: Sequence[Cause]) -> str:
    """Return whether it was foretold, and how long before a warning came, if one did."""
    if record["FORETOLD"] == DIFFERS:
        return "not the same for all of them"
    foretold = ANSWERS.get(record["FORETOLD"], Foretold.NOT_FORESEEABLE)
    said = foretold_words(foretold, cause, others, has_lines=len(record["REMEDY"].splitlines()) > 1)
    if not record["WARNED_SEC"]:
        return said
    before = duration.span(_number_in(record["WARNED_SEC"]))
    warned = f", {before} before" if foretold is Foretold.FORETOLD else f"; a warning had come {before} before"
    return said + warned


def _groups(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return a row for each cause, unit and path, the most frequent first."""
    counts: Counter[tuple[str, ...]] = Counter()
    newest: dict[tuple[str, ...], str] = {}
    for record in records:
        key = record["CAUSE"], record["FORETOLD"], record["UNIT"] or "-", record["PATH"] or "-"
        counts[key] += record.count
        newest.setdefault(key, when(record))
    return [(str(count), newest[key], *key) for key, count in counts.most_common()]


def _cells(record: Record) -> tuple[str, ...]:
    process = f"{quoted(record['PROCESS'])}[{record['PID']}]" if record["PID"] else "-"
    sure = confidence_words(_number_in(record["CONFIDENCE"]), record["OTHER_CAUSES"])
    cause = record["CAUSE"] + (f" at hop {record['HOP']}" if record["HOP"] else "")
    if record["COUNT"]:
        return when(record), cause, sure, f"{record['COUNT']} connections", "-", "-", record["UNIT"] or "-"
    return when(record), cause, sure, _end(record, "LOCAL"), _end(record, "REMOTE"), process, record["UNIT"] or "-"


def _end(record: Record, side: str) -> str:
    address, port = record[f"{side}_ADDRESS"], record[f"{side}_PORT"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _number_in(text: str) -> float:
    """Return the number, 0 where a damaged entry has none."""
    with contextlib.suppress(ValueError):
        number = float(text)
        return number if math.isfinite(number) else 0.0
    return 0.0


def _id(text: str) -> str:
    if text != LAST and not re.fullmatch(f"[0-9a-f]{{{SHORTEST},{ID_LENGTH}}}", text):
        longer = f"its first {SHORTEST} characters or more"
        right = f"one that keepalivectl deaths lists, or {longer}, or {LAST} for the newest entry"
        raise argparse.ArgumentTypeError(f"{shown(text)} is not an ID; write {right}")
    return text
