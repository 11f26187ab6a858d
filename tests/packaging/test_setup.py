"""script/setup and packaging/compile-bpf, run in a small copy of the project; apt, pip and dpkg are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import keepaliveD.platforms.linux.bpf

PROJECT = Path(__file__).parents[2]
BPF = Path(keepaliveD.platforms.linux.bpf.__file__).parent.relative_to(PROJECT)
COMPILE = "packaging/compile-bpf"

SOURCE = """\
#include "size.h"
int variable[SIZE] = { 1 };
"""

STAND_INS = {
    "id": "echo 0",
    "dpkg-query": "exit 1",  # nothing is installed
    # what it installs can be used at once
    "apt-get": 'echo "$*" >> apt.log; case "$*" in *" clang"*) ln -sf "$CLANG" "$STAND_INS/clang" ;; esac',
    # pip warns of mirrors that lack a package, unless only errors are to be printed
    "python3": """case "$*" in
*-qq*) ;;
*'-m pip'*) echo 'WARNING: Location is ignored' >&2 ;;
esac
if [ "$1$2" = -mvenv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi""",
}
TOOLS = ("cat", "cksum", "cp", "dirname", "env", "find", "grep", "ln", "mkdir", "mv", "rm", "sh")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The scripts, one BPF program, and what script/setup reads."""
    project = tmp_path / "project"
    for name in ("script/setup", "packaging/compile-bpf", "pyproject.toml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    (project / "constraints").mkdir()
    (project / "constraints/run.txt").touch()
    (project / BPF).mkdir(parents=True)
    (project / BPF / "one.bpf.c").write_text(SOURCE, encoding="ascii")
    (project / BPF / "size.h").write_text("#define SIZE 1\n", encoding="ascii")
    return project


@pytest.fixture
def bare(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a machine without Python's venv, clang and a network."""
    clang = shutil.which("clang")
    assert clang, "script/setup test installs clang"
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in TOOLS:
        (directory / name).symlink_to(str(shutil.which(name)))
    for name, text in STAND_INS.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
        (directory / name).chmod(0o755)
    return {"PATH": str(directory), "STAND_INS": str(directory), "CLANG": clang}


def run(project: Path, *command: str, env: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    """What came of a script of the project."""
    return subprocess.run(
        [str(project / command[0]), *command[1:]], env=env, capture_output=True, text=True, check=False
    )


def compiled(project: Path) -> bytes:
    """The object, after the programs were compiled."""
    done = run(project, COMPILE)
    assert done.returncode == 0, done.stderr
    return (project / BPF / "one.bpf.o").read_bytes()


def test_a_newcomer_gets_the_bpf_engine(project: Path, bare: Mapping[str, str]) -> None:
    done = run(project, "script/setup", env=bare)
    assert done.returncode == 0, done.stderr
    assert "install libbpf1 clang libbpf-dev" in (project / "apt.log").read_text(encoding="ascii")
    assert (project / BPF / "one.bpf.o").exists()


def test_setup_reports_only_what_it_does(project: Path, bare: Mapping[str, str]) -> None:
    done = run(project, "script/setup", env=bare)
    assert (done.stdout, done.stderr) == ("", "installing: libbpf1 clang libbpf-dev\nsetting up .venv for: run\n")


def test_a_machine_with_compiled_programs_needs_no_compiler(project: Path, bare: Mapping[str, str]) -> None:
    compiled(project)
    done = run(project, "script/setup", env=bare)
    assert done.stderr.startswith("installing: libbpf1\n")


def test_a_system_without_apt_is_set_up_without_the_bpf_engine(project: Path, bare: Mapping[str, str]) -> None:
    Path(bare["STAND_INS"], "apt-get").unlink()
    done = run(project, "script/setup", env=bare)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("built without the BPF engine: ")


def test_programs_are_compiled_again_after_a_change_of_whatever_date(project: Path) -> None:
    before = compiled(project)
    header = project / BPF / "size.h"
    header.write_text("#define SIZE 2\n", encoding="ascii")
    os.utime(header, (0, 0))
    assert compiled(project) != before


def test_an_object_of_other_sources_is_replaced_however_new_it_is(project: Path) -> None:
    before = compiled(project)
    (project / BPF / "one.bpf.o").write_bytes(b"of another version")
    assert compiled(project) == before


def test_programs_that_did_not_change_are_not_compiled_again(project: Path) -> None:
    compiled(project)
    before = (project / BPF / "one.bpf.o").stat()
    compiled(project)
    assert (project / BPF / "one.bpf.o").stat() == before
    assert run(project, COMPILE, "--check").returncode == 0


def test_without_a_compiler_no_object_of_other_sources_stays(project: Path, bare: Mapping[str, str]) -> None:
    compiled(project)
    (project / BPF / "size.h").write_text("#define SIZE 2\n", encoding="ascii")
    done = run(project, COMPILE, env=bare)
    assert done.stderr.startswith("built without the BPF engine: clang or bpf/bpf_helpers.h (libbpf-dev) is missing")
    assert not list((project / BPF).glob("*.o"))


def test_a_program_that_does_not_compile_is_reported_each_time(project: Path) -> None:
    compiled(project)
    (project / BPF / "size.h").write_text("#error wrong\n", encoding="ascii")
    for _ in range(2):
        done = run(project, COMPILE)
        assert done.returncode != 0
        assert "#error wrong" in done.stderr
