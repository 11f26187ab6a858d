#!/usr/bin/python3
"""Print what debian/copyright has to say of the wheels that are carried along, by what they say of themselves.

usage: licences.py LIBRARY >> debian/copyright
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import PurePath

COMMON = {  # the end of a licence file's name, and Debian's copy of that licence
    "Apache-2.0": "/usr/share/common-licenses/Apache-2.0",
    "GPL-2.0-or-later": "/usr/share/common-licenses/GPL-2",
}
COPYRIGHT = re.compile(r"(?m)^ *(?:Copyright|\(c\)) .*[12]\d{3}.*$")


def paragraph(distribution: Distribution) -> str:
    """One wheel's paragraph; its path is that in the source package."""
    facts = distribution.metadata
    texts = list(licences(distribution))
    notices = [line.strip() for text in texts for line in COPYRIGHT.findall(text)]
    fields = {
        "Files": f"wheels/{re.sub('[-_.]+', '_', facts['Name']).lower()}-{facts['Version']}-*",
        "Copyright": "\n".join(notices or [f"{facts['Author-email']}"]),
        "Comment": "\n".join(linked(distribution)),
        "License": "\n".join([facts["License-Expression"].replace(" OR ", " or "), *texts]),
    }
    return "\n" + "".join(f"{name}: {folded(text)}\n" for name, text in fields.items() if text)


def licences(distribution: Distribution) -> Iterator[str]:
    """The texts of its licences, or where Debian has them."""
    for file in distribution.files or ():
        if "LICEN" not in file.name or not file.parts[0].endswith(".dist-info"):
            continue
        common = COMMON.get(file.name.removeprefix("LICENSE."))
        if common:
            yield f"On Debian systems the full text is in {common}."
        elif (text := file.read_text(encoding="utf-8").strip()) != distribution.metadata["License-Expression"]:
            yield text


def linked(distribution: Distribution) -> Iterator[str]:
    """What is linked into it, by its bill of materials."""
    for file in distribution.files or ():
        if PurePath(file).match("*.dist-info/sboms/*.json"):
            yield "Linked into it, each by name, version, licence and authors:"
            for part in json.loads(file.read_text(encoding="utf-8"))["components"]:
                licence = " and ".join(each["expression"] for each in part["licenses"])
                yield f"{part['name']} {part['version']}: {licence}; {part.get('author', 'its authors')}"


def folded(text: str) -> str:
    """The value of a field of several lines."""
    first, *rest = text.splitlines()
    return "\n".join([first, *(f" {line.rstrip()}" if line.strip() else " ." for line in rest)])


def main(library: str) -> None:
    """Print a paragraph for each wheel but our own."""
    wheels = {each.metadata["Name"]: each for each in distributions(path=[library])}
    for name in sorted(wheels.keys() - {"keepaliveD"}):
        sys.stdout.write(paragraph(wheels[name]))


if __name__ == "__main__":
    main(*sys.argv[1:])
