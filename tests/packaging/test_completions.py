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
from keepaliveD.cli.daemon import FORMATS
from tests.support.commands import COMMANDS
from tests.support.patience import SOON

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
function=$(complete -p "${1%% *}"); function=${function#*-F }; function=${function%% *}
COMP_LINE=$1; COMP_POINT=${#COMP_LINE}
"$function" 2> /dev/null   # compopt wants a real Tab
printf '%s\\n' "${COMPREPLY[@]}"
"""


def bash(scripts: Path, line: str) -> set[str]:
    """Candidates for what readline takes for the last word."""
    script = scripts / "bash" / line.split(maxsplit=1)[0]
    done = subprocess.run(["bash", "-c", BASH, "bash", script, line], capture_output=True, text=True, check=True)
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


HOST = {  # what there is on a host, as its programs print it
    "systemctl": "amanda@backup.service loaded active running Backup\\nssh.service      loaded active running SSH",
    "ps": """case "$*" in *comm*) printf '%s\\n' 'amandad' 'a name' '$(touch forged)' ';touch forged' '-rf' ;;
*) printf '%7d\\n' 1 812 ;; esac""",
    "ss": "ESTAB 0 0 10.1.2.3:40000 10.20.0.9:5432\\nESTAB 0 0 [fd00::1]:40001 [fd00::9]:22",
    "getent": "root:x:0:0:root:/root:/bin/sh\\ndaemon:x:1:1::/:/bin/false",
    "lsns": "4026531840\\n4026532200",
    "keepalivectl": "valid: f\\n\\npath office   forgets after 5min\\npath default  never",
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Programs that print what there is on a host."""
    directory = tmp_path_factory.mktemp("host")
    for name, said in HOST.items():
        script = said if "\n" in said else f"printf '%b\\n' '{said}'"
        (directory / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (directory / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        patch.chdir(directory)
        yield directory


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


UNITS = {"amanda@backup.service", "ssh.service"}
ENDPOINTS = {"10.20.0.9:5432", "[fd00::9]:22"}
ASKED = [
    ("sockets --unit ", UNITS),
    ("log --unit ", UNITS),
    ("sockets --user ", {"root", "daemon"}),
    ("sockets --process ama", {"amandad"}),
    ("sockets --peer ", {"10.20.0.9", "fd00::9"}),
    ("sockets --port ", {"40000", "40001", "5432", "22"}),
    ("sockets --path ", {"office", "default"}),
    ("sockets --namespace ", {"4026531840", "4026532200"}),
    ("arm 8", {"812"}),
    ("measure ", ENDPOINTS),
    ("why ", UNITS | ENDPOINTS | {"1", "812", "amandad", "aname", "-rf"}),
    ("undo net", {f"net.ipv4.tcp_keepalive_{each}" for each in ("time", "intvl", "probes")}),
    ("undo a", {"all", "amandad", "aname", "amanda@backup.service"}),
    ("undo keepalive.i", {"keepalive.idle", "keepalive.interval"}),
    ("deaths ", UNITS | {"10.20.0.9", "fd00::9"}),
    ("presets aws-nl", {"aws-nlb"}),
]


@LISTING
@pytest.mark.parametrize(("words", "offered"), ASKED)
def test_what_there_is_on_the_host_is_offered(
    scripts: Path, host: Path, complete: Complete, words: str, offered: set[str]
) -> None:
    del host
    found = complete(scripts, f"keepalivectl {words}")
    assert {each for each in found if not each.startswith("--")} == offered


def test_bash_offers_what_readline_has_not_taken_yet(scripts: Path, host: Path) -> None:
    """A colon ends a word for it."""
    del host
    assert bash(scripts, "keepalivectl measure 10.20.0.9:54") == {"5432"}
    assert bash(scripts, "keepalivectl sockets --unit=ama") == {"amanda@backup.service"}
    assert bash(scripts, "keepalivectl arm [fd00::9]:") == {"22"}


@LISTING
def test_the_name_of_a_process_is_no_command(scripts: Path, host: Path, complete: Complete) -> None:
    """Anybody may call a program as he likes."""
    complete(scripts, "keepalivectl sockets --process ")
    complete(scripts, "keepalivectl why ")
    assert not (host / "forged").exists()


ZSHRC = """
fpath=("{scripts}/zsh" $fpath)
autoload -Uz compinit && compinit -u -D
zstyle ':completion:*' insert-tab false
unsetopt beep
tcp-keepalived keepalivectl() {{ print -r -- "GOT:$*:" }}
PS1='READY>'
"""


BASHRC = """
source "{scripts}/bash/keepalivectl"
bind 'set enable-bracketed-paste off'
keepalivectl() {{ printf 'GOT:%s:\n' "$*"; }}
PS1='READY>'
"""


class Shell:
    """An interactive shell on a terminal, where each program prints its arguments."""

    COMMAND: tuple[str, ...] = ("zsh", "-d", "-i")
    FILE = ".zshrc"
    TEXT = ZSHRC

    def __init__(self, scripts: Path, home: Path) -> None:
        (home / self.FILE).write_text(self.TEXT.format(scripts=scripts), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *self.COMMAND],
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
        self._process.wait(SOON)

    def _read(self, pattern: str) -> str:
        deadline = time.monotonic() + SOON
        while not (found := re.search(pattern, self._seen)):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern} in {self._seen!r}"
            self._seen += os.read(self._terminal, 4096).decode()
        self._seen = self._seen[found.end() :]
        return found[found.re.groups]


class Bash(Shell):
    """The same, of bash, with readline."""

    COMMAND = ("bash", "--noprofile", "-i")
    FILE = ".bashrc"
    TEXT = BASHRC


@pytest.fixture(scope="module")
def zsh(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(scripts, tmp_path_factory.mktemp("home"))
    yield shell
    shell.close()


@pytest.fixture(scope="module")
def zsh_of_host(scripts: Path, host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    del host
    shell = Shell(scripts, tmp_path_factory.mktemp("home"))
    yield shell
    shell.close()


@pytest.mark.parametrize("line", LINES)
def test_zsh_completes_every_option(zsh: Shell, line: str) -> None:
    for option in options(line):
        if option.startswith("--"):
            assert zsh.tab(f"{line} {option[:-1]}").split()[-1] == option


@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_completes_every_command(zsh: Shell, command: str) -> None:
    assert zsh.tab(f"keepalivectl {command[:3]}") == command


def test_zsh_offers_no_option_where_it_does_not_belong(zsh: Shell) -> None:
    assert zsh.tab("keepalivectl check --at-r") == "check --at-r"


def test_zsh_completes_values(zsh: Shell, place: Path) -> None:
    assert zsh.tab("tcp-keepalived --log-format=jo") == "--log-format=journal"
    assert zsh.tab("tcp-keepalived --log-format jo") == "--log-format journal"
    assert zsh.tab(f"keepalivectl check {place}/con") == f"check {place}/config.toml"
    assert zsh.tab(f"keepalivectl sockets --config {place}/con") == f"sockets --config {place}/config.toml"
    assert zsh.tab(f"tcp-keepalived --state-dir {place}/").rstrip("/") == f"--state-dir {place}/state"


COMPLETED = pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("sockets --unit=ama", "sockets --unit=amanda@backup.service"),
        ("sockets --path of", "sockets --path office"),
        ("measure 10.20", "measure 10.20.0.9:5432"),
        ("measure 10.20.0.9:5", "measure 10.20.0.9:5432"),
        ("arm 81", "arm 812"),
        ("presets aws-nl", "presets aws-nlb"),
        ("sockets --at-r", "sockets --at-risk"),
    ],
)


@COMPLETED
def test_zsh_completes_what_there_is_on_the_host(zsh_of_host: Shell, words: str, completed: str) -> None:
    assert zsh_of_host.tab(f"keepalivectl {words}") == completed


@pytest.fixture(scope="module")
def bash_of_host(scripts: Path, host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    del host
    shell = Bash(scripts, tmp_path_factory.mktemp("home"))
    yield shell
    shell.close()


@COMPLETED
def test_bash_completes_what_there_is_on_the_host(bash_of_host: Shell, words: str, completed: str) -> None:
    """On a terminal, where readline puts together what it has taken and what is offered."""
    assert bash_of_host.tab(f"keepalivectl {words}") == completed
