"""Tab completes both command lines in bash, zsh and fish: everything there is, and nothing else."""

import contextlib
import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keepaliveD.cli import ctl, daemon
from keepaliveD.log.journal import FORMATS
from tests.support.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PARSERS = {"tcp-keepalived": daemon.parser, "keepalivectl": ctl.parser}
LINES = ("tcp-keepalived", "keepalivectl", *(f"keepalivectl {command}" for command in COMMANDS))


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, ROOT / "packaging/manual/generate.py", made], check=True)
    return made / "completions"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with one file and one directory."""
    (tmp_path / "config.toml").touch()
    (tmp_path / "state").mkdir()
    return tmp_path


def options(line: str) -> set[str]:
    """What the program itself says that it takes after this beginning of a command line."""
    program, *words = line.split()
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        PARSERS[program]().parse_args([*words, "--help"])
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", said.getvalue().partition("options:")[2]))


BASH = """
source "$1"; shift
function=$(complete -p "$1"); function=${function#*-F }; function=${function%% *}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
"$function" 2> /dev/null   # compopt wants a real Tab
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(scripts: Path, line: str) -> set[str]:
    """Candidates for the last word; readline splits words at `=` too."""
    words = re.findall(r"=|[^ =]+", line) + ([""] if line.endswith(" ") else [])
    script = scripts / "bash" / words[0]
    done = subprocess.run(["bash", "-c", BASH, "bash", script, *words], capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


def fish(scripts: Path, line: str) -> set[str]:
    """Candidates for the last word."""
    command = ["fish", "--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"']
    done = subprocess.run(
        [*command, scripts / f"fish/{line.split(maxsplit=1)[0]}.fish", line], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return {candidate.partition("\t")[0] for candidate in done.stdout.splitlines()}


Complete = Callable[[Path, str], set[str]]
LISTING = pytest.mark.parametrize("complete", [bash, fish])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_of_their_shells_language(scripts: Path, shell: str) -> None:
    files = sorted((scripts / shell).iterdir())
    assert len(files) == 2
    for file in files:
        subprocess.run([shell, "-n", file], check=True)


@LISTING
def test_commands_are_offered_first(scripts: Path, complete: Complete) -> None:
    assert complete(scripts, "keepalivectl ") == set(COMMANDS)


@LISTING
@pytest.mark.parametrize("line", LINES)
def test_every_option_is_offered_where_it_belongs(scripts: Path, complete: Complete, line: str) -> None:
    assert complete(scripts, f"{line} --") == {option for option in options(line) if option.startswith("--")}


@LISTING
def test_choices_are_offered(scripts: Path, complete: Complete) -> None:
    assert complete(scripts, "tcp-keepalived --log-format ") == set(FORMATS)


def test_choices_are_offered_after_an_equals_sign(scripts: Path) -> None:
    assert bash(scripts, "tcp-keepalived --log-format=") == set(FORMATS)
    assert bash(scripts, "tcp-keepalived --log-format=jo") == {"journal"}
    assert fish(scripts, "tcp-keepalived --log-format=jo") == {"--log-format=journal"}


@LISTING
@pytest.mark.parametrize("line", ["keepalivectl check", "keepalivectl sockets --config", "tcp-keepalived --config"])
def test_files_are_offered(scripts: Path, complete: Complete, line: str, place: Path) -> None:
    assert complete(scripts, f"{line} {place}/con") == {f"{place}/config.toml"}


@LISTING
@pytest.mark.parametrize("line", ["keepalivectl restore --state-dir", "tcp-keepalived --state-dir"])
def test_only_directories_are_offered(scripts: Path, complete: Complete, line: str, place: Path) -> None:
    assert {found.rstrip("/") for found in complete(scripts, f"{line} {place}/")} == {f"{place}/state"}


ZSHRC = """
fpath=("{scripts}/zsh" $fpath)
autoload -Uz compinit && compinit -u -D
zstyle ':completion:*' insert-tab false
unsetopt beep
tcp-keepalived keepalivectl() {{ print -r -- "GOT:$*:" }}
PS1='READY>'
"""


class Zsh:
    """An interactive zsh on a terminal, where each program prints its arguments."""

    def __init__(self, scripts: Path, home: Path) -> None:
        (home / ".zshrc").write_text(ZSHRC.format(scripts=scripts), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "zsh", "-d", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        self._seen = ""

    def tab(self, line: str) -> str:
        """The arguments after a Tab and Enter."""
        self._read("READY>")
        os.write(self._terminal, f"{line}\t\r".encode())
        return self._read("GOT:(.*):\r\n").rstrip("= ")

    def close(self) -> None:
        """A terminal that goes away ends it."""
        os.close(self._terminal)
        self._process.wait(timeout=10)

    def _read(self, pattern: str) -> str:
        deadline = time.monotonic() + 20
        while not (found := re.search(pattern, self._seen)):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern} in {self._seen!r}"
            self._seen += os.read(self._terminal, 4096).decode()
        self._seen = self._seen[found.end() :]
        return found[found.re.groups]


@pytest.fixture(scope="module")
def zsh(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zsh]:
    shell = Zsh(scripts, tmp_path_factory.mktemp("home"))
    yield shell
    shell.close()


@pytest.mark.parametrize("line", LINES)
def test_zsh_completes_every_option(zsh: Zsh, line: str) -> None:
    for option in options(line):
        if option.startswith("--"):
            assert zsh.tab(f"{line} {option[:-1]}").split()[-1] == option


@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_completes_every_command(zsh: Zsh, command: str) -> None:
    assert zsh.tab(f"keepalivectl {command[:3]}") == command


def test_zsh_offers_no_option_where_it_does_not_belong(zsh: Zsh) -> None:
    assert zsh.tab("keepalivectl check --at-r") == "check --at-r"


def test_zsh_completes_values(zsh: Zsh, place: Path) -> None:
    assert zsh.tab("tcp-keepalived --log-format=jo") == "--log-format=journal"
    assert zsh.tab("tcp-keepalived --log-format jo") == "--log-format journal"
    assert zsh.tab(f"keepalivectl check {place}/con") == f"check {place}/config.toml"
    assert zsh.tab(f"keepalivectl sockets --config {place}/con") == f"sockets --config {place}/config.toml"
    assert zsh.tab(f"tcp-keepalived --state-dir {place}/").rstrip("/") == f"--state-dir {place}/state"
