"""What the service's user may write is never run with the daemon's capabilities."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rig import DIE_WITH_US

PACKAGING = Path(__file__).parents[2] / "packaging"
FORMATS = {"debian": PACKAGING / "debian/rules", "rpm": PACKAGING / "rpm/tcp-keepalived.spec"}
INTERPRETER = re.compile(r"#!/usr/bin/python3([^,\n]*),")  # that they give the programs
PYTHON = f"{sys.base_prefix}/bin/python3"  # a virtual environment has no site of a user's
NAMES = ("usercustomize", "sitecustomize", "keepaliveD", "re")
SITE = "import site; print(site.getusersitepackages())"


def interpreters(file: Path) -> list[list[str]]:
    """Return the options of Python for each program that this package has, or kind of package."""
    return [options.split() for options in INTERPRETER.findall(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("package", FORMATS)
def test_no_package_runs_what_the_services_user_has_planted(package: str, tmp_path: Path) -> None:
    """In his home and his state directory, and where PYTHONPATH leads; without -I each of these is run."""
    home = tmp_path / "state"
    environment = {"HOME": str(home), "PYTHONPATH": str(home), "PATH": os.defpath}
    site = subprocess.run([PYTHON, "-c", SITE], env=environment, capture_output=True, text=True, check=True)
    for place in (home, Path(site.stdout.strip())):
        place.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (place / f"{name}.py").write_text(f'print("planted {name}", flush=True)\nraise SystemExit\n')
    program = tmp_path / "program"
    program.write_text("import sys, re\nprint('ran')\n")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)

    def ran(*options: str) -> str:
        command = (*DIE_WITH_US, PYTHON, *options, str(program))
        return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False).stdout

    assert interpreters(FORMATS[package])
    for options in interpreters(FORMATS[package]):
        assert ran(*options) == "ran\n"
    assert ran().startswith("planted")
