"""Pictures of a terminal for the README: the screens that it shows, and `keepalivectl watch` over a firewall.

usage: python -m tests.handbook.pictures
A picture is text in SVG, with the reader's own fixed-width font, and in the colours of his light or dark page.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

from tests.handbook.documents import ROOT, text
from tests.support.processes import CTL, Home
from tests.support.rig import Rig
from tests.support.terminal import terminal

PICTURES = ROOT / "docs/pictures"
RECORDED = ("status", "why")  # screens of the README, which script/docs --screens has recorded
COLUMNS, LINES = 100, 14  # of the terminal in which watch runs
WIDTH, HEIGHT, EDGE = 8.45, 18, 14  # of a character, of a line, and around the text: pixels at 14 px
STYLE = """\
rect{fill:#f6f8fa;stroke:#d0d7de}text{fill:#1f2328;font:14px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.cut,.bare{fill:#cf222e}.late{fill:#9a6700}.safe{fill:#1a7f37}.typed{font-weight:bold}
@media(prefers-color-scheme:dark){rect{fill:#0d1117;stroke:#30363d}text{fill:#e6edf3}
.cut,.bare{fill:#ff7b72}.late{fill:#d29922}.safe{fill:#3fb950}}"""
VERDICT = re.compile(r"\b(cut|bare|late|safe)\b\??(?! (?:in|on)\b)|\b(CUT|BARE|LATE|SAFE)(?=:)")


def picture(shown: str) -> str:
    """Return the SVG of a screen: its words stay text, which can be searched, copied and read aloud."""
    lines = shown.rstrip("\n").split("\n")
    width = round(2 * EDGE + WIDTH * max(map(len, lines)))
    height = 2 * EDGE + HEIGHT * len(lines)
    rows = "\n".join(
        f'<text x="{EDGE}" y="{EDGE + HEIGHT * number - 4}" xml:space="preserve">{_line(line)}</text>'
        for number, line in enumerate(lines, start=1)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="6"/>\n{rows}\n</svg>\n'
    )


def words(svg: str) -> list[str]:
    """Return the lines of a picture that are not empty, as the program printed them."""
    rows = re.findall(r"<text [^>]*>(.*)</text>", svg)
    return [re.sub(r"<[^>]*>", "", row).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for row in rows]


def screen(name: str) -> str:
    """Return a screen of the README."""
    (shown,) = re.findall(rf"<!-- screen: {name} -->\n```\n(.*?)```", text(ROOT / "README.md"), re.DOTALL)
    return str(shown)


def watched() -> str:
    """Return what `keepalivectl watch` shows in a real terminal, over the rig's firewall."""
    from tests.handbook.__main__ import CONFIGURATION, PROGRAMS, TIMEOUT, played

    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = Home(directory, CONFIGURATION)
        rig = stack.enter_context(Rig(timeout=TIMEOUT))
        for unit, name, port, keepalive in PROGRAMS:
            stack.enter_context(played(rig, unit, name, port, keepalive=keepalive))
        shown = stack.enter_context(terminal(rig.client, directory, COLUMNS, LINES))
        shown.run(*CTL, "watch", f"--config={home.file}")
        shown.shows(rf"\b{len(PROGRAMS)} connections: 1 bare")
        return "$ keepalivectl watch\n" + shown.screen.rstrip() + "\n"


def _line(line: str) -> str:
    marked = VERDICT.sub(lambda found: f"\0{found[0].lower().rstrip('?')}\1{found[0]}\2", line)
    safe = escape(marked)
    safe = re.sub("\0([a-z]+)\1(.*?)\2", r'<tspan class="\1">\2</tspan>', safe)
    return f'<tspan class="typed">{safe}</tspan>' if line.startswith("$ ") else safe


def main() -> None:
    """Write all pictures."""
    PICTURES.mkdir(exist_ok=True)
    shown = {name: screen(name) for name in RECORDED}
    if "--recorded" not in sys.argv:
        shown["watch"] = watched()
    for name, what in shown.items():
        (PICTURES / f"{name}.svg").write_text(picture(what), encoding="utf-8")
        print(f"wrote docs/pictures/{name}.svg")


if __name__ == "__main__":
    main()
