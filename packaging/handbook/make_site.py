#!/usr/bin/env python3
"""Make the handbook a site, with search and the manual pages in it: the documents as they stand, by MkDocs.

usage: python3 packaging/handbook/make_site.py SITE
A warning of MkDocs, such as of a link that leads nowhere, is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = ("*.md", "docs/**/*.md", "bench/README.md", "packaging/README.md")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


def documents() -> Iterator[Path]:
    """Yield every document that the site shows."""
    for pattern in DOCUMENTS:
        yield from sorted(ROOT.glob(pattern))


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Yield what a document links to, and the anchor there; what is code links to nothing."""
    for _, target, anchor in LINK.findall(CODE.sub("", document.read_text(encoding="utf-8"))):
        yield (document.parent / target).resolve() if target else document, anchor.removeprefix("#")


def stage(man: Path, into: Path) -> None:
    """Lay out the documents, what they link to, and the manual pages, where MkDocs looks for them."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        for target, _ in links(document):
            if target.is_file() and target.suffix != ".md":
                _write(into / target.relative_to(ROOT), target.read_text(encoding="utf-8"))
        shown = LINK.sub(lambda link: _without_directory(document, link), text)  # noqa: B023  # called at once
        _write(into / document.relative_to(ROOT), shown)
    for page in sorted(man.iterdir()):
        _write(into / "man" / f"{page.name}.md", _page(page))


def _without_directory(document: Path, link: re.Match[str]) -> str:
    """A link as it stands, but only the text of one to a directory, which a site does not show."""
    return link[1] if link[2] and (document.parent / link[2]).is_dir() else link[0]


def _page(page: Path) -> str:
    """A manual page as Markdown: HTML is, as long as none of its lines is empty."""
    name, section = page.name.rsplit(".", 1)
    command = ["mandoc", "-T", "html", "-O", "fragment", str(page)]
    html = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"# {name}({section})\n\n" + re.sub(r"\n\s*\n", "\n", html)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> None:
    """The entry point."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        subprocess.run([sys.executable, ROOT / "packaging/manual/generate.py", work / "made"], check=True)
        stage(work / "made/man", work / "source")
        shutil.copy(HERE / "mkdocs.yml", work)
        shutil.copy(HERE / "handbook.css", work / "source")
        command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", f"--site-dir={work / 'site'}"]
        done = subprocess.run([*command, f"--config-file={work / 'mkdocs.yml'}"], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        shutil.copytree(work / "site", arguments[0], dirs_exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
