"""The RPM, built by rpmbuild as its spec says, though with this system's Python in place of Fedora's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepaliveD import __version__
from tests.support.rig import DIE_WITH_US

pytestmark = pytest.mark.long  # it makes the manual pages
ROOT = Path(__file__).parents[2]
SPEC = ROOT / "packaging/rpm/tcp-keepalived.spec"
SOURCES = (
    *("CHANGELOG.md", "LICENSE", "README.md", "docs", "etc"),
    *("keepaliveD", "packaging", "pyproject.toml", "systemd"),
)  # with the BPF objects that script/setup has compiled
SITE = "/usr/lib/python{}.{}/site-packages".format(*sys.version_info)
MACROS = {  # of Fedora's packages redhat-rpm-config, systemd-rpm-macros and python3-devel
    "_docdir_fmt": "%%{NAME}",
    "_unitdir": "/usr/lib/systemd/system",
    "_sysusersdir": "/usr/lib/sysusers.d",
    "_journalcatalogdir": "/usr/lib/systemd/catalog",
    "python3_sitelib": SITE,
}
PROGRAMS = ("tcp-keepalived", "keepalivectl")
IN_PLACE_OF_OURS = 'mount --bind "$0" "$1" && shift && exec "$@"'


def run(*command: str | os.PathLike[str], check: bool = True, **environment: str) -> str:
    """What a command prints; it must end well, unless told otherwise."""
    everything = {**os.environ, **environment}
    done = subprocess.run([*DIE_WITH_US, *command], env=everything, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def files() -> list[Path]:
    """All files of the sources, and no directory: tar(1) fails where others compile into one meanwhile."""
    every = (path for source in SOURCES for path in (ROOT / source, *(ROOT / source).rglob("*")))
    return [path.relative_to(ROOT) for path in every if path.is_file() and path.suffix != ".pyc"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, as a file."""
    top = tmp_path_factory.mktemp("rpm")
    (top / "SOURCES").mkdir()
    name = f"tcp-keepalived-{__version__}"
    archive = top / f"SOURCES/{name}.tar.gz"
    run("tar", "-czf", archive, f"--directory={ROOT}", f"--transform=s,^,{name}/,", *files())
    macros = {**MACROS, "_topdir": str(top), "_dbpath": str(top / "db")}
    defined = [f"--define={macro} {value}" for macro, value in macros.items()]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run("rpmbuild", "-bb", "--nodeps", *defined, SPEC, PATH=path)
    (built,) = top.glob("RPMS/*/*.rpm")
    return built


@pytest.fixture(scope="module")
def content(package: Path) -> Path:
    """What it installs, below a directory."""
    root = package.parent / "root"
    root.mkdir()
    run("sh", "-c", 'rpm2cpio "$0" | cpio -idm --quiet --directory="$1"', package, root)
    return root


def test_it_has_the_programs_the_unit_and_what_belongs_to_them(content: Path) -> None:
    for file in (
        *(f"usr/bin/{program}" for program in PROGRAMS),
        *("usr/lib/systemd/system/tcp-keepalived.service", "usr/lib/systemd/system/tcp-keepalived-metrics.socket"),
        *("etc/tcp-keepalived/config.toml", "usr/lib/sysusers.d/tcp-keepalived.conf"),
        *(f"{SITE[1:]}/keepaliveD/platforms/linux/bpf/walk.bpf.o", "usr/lib/systemd/catalog/tcp-keepalived.catalog"),
        "usr/share/doc/tcp-keepalived/examples/drop-ins/bpf.conf",
    ):
        assert (content / file).is_file(), file
    assert list(content.glob("usr/share/man/man8/tcp-keepalived.8*"))
    assert "Type=notify-reload\n" in (content / "usr/lib/systemd/system/tcp-keepalived.service").read_text()


def test_its_user_has_no_home(content: Path) -> None:
    """The state directory, which he may write, is none."""
    (line,) = (content / "usr/lib/sysusers.d/tcp-keepalived.conf").read_text().splitlines()
    assert line.split()[0:2] == ["u", "tcp-keepalived"]
    assert line.split()[-1] == "/nonexistent"


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_programs_run_and_nothing_that_the_services_user_has_planted(
    content: Path, tmp_path: Path, program: str
) -> None:
    """With the interpreter's options that the package gives them; without these, what is planted is run."""
    script = content / "usr/bin" / program
    interpreter, *options = script.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#!").split()
    assert interpreter == "/usr/bin/python3"
    for name in ("usercustomize", "sitecustomize", "keepaliveD", "re"):
        (tmp_path / f"{name}.py").write_text(f'print("planted {name}", flush=True)\nraise SystemExit\n')

    def ran(*chosen: str) -> str:
        mounted = ("unshare", "--mount", "sh", "-c", IN_PLACE_OF_OURS, str(content / SITE[1:] / "keepaliveD"))
        command = (*mounted, str(ROOT / "keepaliveD"), sys.executable, *chosen, str(script), "--version")
        return run(*command, check=False, HOME=str(tmp_path), PYTHONPATH=str(tmp_path))

    assert ran(*options).split() == [program, __version__]
    assert ran().startswith("planted")
