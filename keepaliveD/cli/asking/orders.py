"""Have a daemon that runs do something: scan, reload, record."""

from __future__ import annotations

import contextlib
from pathlib import Path

from keepaliveD.cli.asking.asking import ask, control_socket, listens
from keepaliveD.cli.asking.whose_view import why_not_asked
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted

PATIENCE = 10.0  # seconds for what a daemon does after a scan that is going on


def control_of(pid: int, root: Path) -> Path | None:
    """Return the control socket of this daemon; None where another one listens, or none."""
    path = control_socket(root)
    try:
        return path if listens(path) == pid else None
    except (NoInput, KernelError):
        return None


def show_it(pid: int, root: Path) -> None:
    """Have a daemon scan, so that it shows what was changed; if it cannot be asked, it does so at its next scan."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        if path := control_of(pid, root):
            ask(path, "Scan", patience=PATIENCE)


def have_reloaded(pid: int, root: Path) -> bool:
    """Have a daemon reload, and scan under what it has read; return whether it can be asked. Raises NotPermitted.

    Raises KernelError, which says what is wrong with the configuration.
    """
    if path := control_of(pid, root):
        for method in ("Reload", "Scan"):
            ask(path, method, patience=PATIENCE)
    return path is not None


def have_recorded(pid: int, root: Path) -> str:
    """Have a daemon write into the arming record what it has armed at connect; return why it has not, or ""."""
    path = control_socket(root)
    try:
        if listens(path) == pid:
            ask(path, "Record", patience=PATIENCE)
            return ""
    except NoInput as refusal:
        return why_not_asked(pid, root, refusal)
    except (NotPermitted, KernelError) as refusal:
        return str(refusal)
    return why_not_asked(pid, root, NoInput(""))


def set_by_reload(pid: int, root: Path) -> str:
    """Return which settings a daemon leaves alone that it sets again at a reload; "" where none, or not known."""
    with contextlib.suppress(NoInput, NotPermitted, KernelError, KeyError, TypeError):
        if path := control_of(pid, root):
            status = ask(path, "Status", patience=PATIENCE)
            left = [one for one in status["settings"] if not one.get("note")]
            differ = [one for one in left if one["stands"] not in (None, one["wanted"])]
            if status["applied"] and differ:
                words = (f"{one['name']} {one['wanted']} (now {one['stands']})" for one in differ)
                return (
                    f"the daemon leaves settings as somebody restored or changed them; a reload sets {', '.join(words)}"
                )
    return ""
