"""Ask a program for a list, and understand the answer or say what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from keepaliveD.model.errors import KernelError
from keepaliveD.platforms.commands.run import refusal, run, shortened

Row = TypeVar("Row")


def listed(parse: Callable[[str], list[Row]], program: Path, *arguments: str) -> list[Row]:
    """Return what `parse` makes of the program's output; `parse` raises ValueError if it does not understand.

    An empty list counts only if the program did not complain: netstat(1) of FreeBSD warns and
    exits with 0 where it may not look.
    Raises Unsupported, NotPermitted, KernelError.
    """
    answer = run(program, *arguments)
    asked = shortened(f"{program} {' '.join(arguments)}")
    if answer.status:
        raise refusal(f"{asked}: {answer.reason}")
    complained = bool(answer.err.strip())
    try:
        rows = [] if complained and not answer.out.strip() else parse(answer.out)
    except (ValueError, RecursionError) as error:
        raise KernelError(f"{asked}: unexpected output: {shortened(str(error))}") from error
    if complained and not rows:
        raise refusal(f"{asked}: printed no list: {answer.reason}")
    return rows
