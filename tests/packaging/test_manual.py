"""The manual pages tell of everything there is, and of nothing that is not."""

import ast
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import keepaliveD
from keepaliveD.cli import ctl, daemon
from keepaliveD.cli.printing.table import HEADINGS
from keepaliveD.config import document, load
from keepaliveD.config.catalogue import catalogue
from keepaliveD.config.document import SECTIONS
from keepaliveD.daemon.signals import ALL
from keepaliveD.log import entries
from keepaliveD.log.entries.entry import HANDFUL
from keepaliveD.model import keepalive
from keepaliveD.model.connections import Verdict
from keepaliveD.model.duration import exact
from keepaliveD.model.errors import Exit
from keepaliveD.places import DEFAULT_FILE, DROP_INS, STATE_DIRECTORY
from tests.support.commands import COMMANDS

ROOT = Path(__file__).parents[2]
DAEMON, CONTROL, FILE = PAGES = ("tcp-keepalived.8", "keepalivectl.1", "tcp-keepalived.toml.5")
PARSERS = {DAEMON: daemon.parser, CONTROL: ctl.parser}
ANY_PAGE = pytest.mark.parametrize("page", PAGES)
PROGRAM_PAGE = pytest.mark.parametrize("page", [DAEMON, CONTROL])


def generate(root: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One run of the generator of the tree at `root`."""
    command = [sys.executable, str(root / "packaging/manual/generate.py"), str(out)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


@pytest.fixture(scope="module")
def man(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    generate(ROOT, made, SOURCE_DATE_EPOCH="1795222800").check_returncode()
    return made / "man"


def plain(man: Path, page: str) -> str:
    """The page's source without fonts and escapes."""
    text = re.sub(r"\\f[A-Z]", "", (man / page).read_text(encoding="utf-8"))
    text = re.sub(r"^\.(?:B|I|BR|RB|RI|SY) (.*)$", lambda font: font[1].replace('"', ""), text, flags=re.MULTILINE)
    text = re.sub(r'^\.SH "(.*)"$', r".SH \1", text, flags=re.MULTILINE)
    for escape, meaning in {r"\-": "-", r"\ ": " ", r"\(aq": "'", r"\(dq": '"', r"\&": ""}.items():
        text = text.replace(escape, meaning)
    return text


def section(man: Path, page: str, title: str) -> str:
    """What stands under a heading, up to the next."""
    _, heading, rest = plain(man, page).partition(f"\n.SH {title}\n")
    assert heading, f"{page} has no {title}"
    return rest.partition("\n.SH ")[0]


def tags(text: str) -> list[str]:
    """What is explained there, item by item."""
    return re.findall(r"^\.T[PQ].*\n(.*)$", text, re.MULTILINE)


def help_of(page: str, *words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        PARSERS[page]().parse_args([*words, "--help"])
    return said.getvalue()


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def options(page: str, *words: str) -> set[str]:
    """What the program itself says that it takes."""
    return flags(help_of(page, *words).partition("options:")[2])


def told_options(text: str) -> set[str]:
    return {flag for tag in tags(text) for flag in flags(tag)}


def test_the_manual_lists_the_daemons_options(man: Path) -> None:
    assert told_options(section(man, DAEMON, "OPTIONS")) == options(DAEMON)


def test_the_control_programs_commands_and_their_options(man: Path) -> None:
    assert set(re.findall(r"^    ([a-z]+) ", help_of(CONTROL), re.MULTILINE)) == set(COMMANDS)
    _, *told = re.split(r"^\.TP\n([a-z]+)\b.*\n", section(man, CONTROL, "COMMANDS"), flags=re.MULTILINE)
    assert told[::2] == list(COMMANDS)
    for command, text in zip(told[::2], told[1::2], strict=True):
        assert told_options(text) == options(CONTROL, command) - {"-h", "--help"}
    assert told_options(section(man, CONTROL, "OPTIONS")) == options(CONTROL)


@PROGRAM_PAGE
def test_the_synopsis_shows_every_option(man: Path, page: str) -> None:
    every = options(page).union(*(options(page, command) for command in COMMANDS if page == CONTROL))
    long = {flag for flag in every if flag.startswith("--")}
    assert flags(section(man, page, "SYNOPSIS")) == long - {"--help", "--version"}


def test_the_synopsis_shows_which_value_may_be_left_out(man: Path) -> None:
    assert "[--listen [PORT]]" in " ".join(section(man, CONTROL, "SYNOPSIS").split())


@ANY_PAGE
def test_no_page_names_an_option_that_is_not(man: Path, page: str) -> None:
    every = options(DAEMON).union(options(CONTROL), *(options(CONTROL, command) for command in COMMANDS))
    assert {flag for flag in flags(plain(man, page)) if flag.startswith("--")} <= every


def told_settings(man: Path) -> dict[str, dict[str, str]]:
    """Every setting with the value shown, as TOML."""
    titles = {
        "keepalive": "[keepalive] SECTION",
        "watch": "[watch] SECTION",
        "autopsy": "[autopsy] SECTION",
        "path": "[[path]] SECTIONS",
        "arm": "[[arm]] SECTIONS",
    }
    return {
        name: dict(re.findall(r"^(\w+) = (.*)$", "\n".join(tags(section(man, FILE, title))), re.MULTILINE))
        for name, title in titles.items()
    }


def test_every_key_and_no_other(man: Path) -> None:
    told = told_settings(man)
    assert set(document.Document.model_fields) == set(told)
    for name, section in SECTIONS.items():
        assert set(told[name]) == set(section.model_fields)


def test_the_values_shown_are_the_defaults(man: Path) -> None:
    told = told_settings(man)
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in told[name].items())
        for name in ("keepalive", "watch", "autopsy")
    )
    assert document.Document.model_validate(tomllib.loads(text)) == document.Document()


def test_the_examples_of_a_path_are_valid(man: Path) -> None:
    text = "\n".join(f"{key} = {value}" for key, value in told_settings(man)["path"].items())
    assert document.PathSection.model_validate(tomllib.loads(text)).preset in catalogue()


def test_the_examples_of_files_are_valid(man: Path, tmp_path: Path) -> None:
    examples = re.findall(r"^\.EX\n(.*?)^\.EE", section(man, FILE, "EXAMPLES"), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        (tmp_path / "config.toml").write_text(example, encoding="utf-8")
        load(tmp_path / "config.toml")


def test_the_manual_explains_every_kind_of_value(man: Path) -> None:
    text = section(man, FILE, "[keepalive] SECTION")
    assert f"a time span of whole seconds from 1s to {keepalive.MAX_IDLE}s" in text
    assert f"a whole number from 1 to {keepalive.MAX_PROBES}" in text
    assert 'Takes "reapply", "yield" or "warn".' in text


@ANY_PAGE
def test_no_page_names_a_key_that_is_not(man: Path, page: str) -> None:
    named = set(re.findall(r"\b(keepalive|watch|autopsy|path)\.([a-z_]+)", plain(man, page)))
    assert named <= {(name, key) for name, section in SECTIONS.items() for key in section.model_fields}


def test_every_preset_with_its_timeout(man: Path) -> None:
    rows = re.findall(r"^\.TP \d+n\n(\S+)\n(.*?)[:,] ", section(man, FILE, "PRESETS"), re.MULTILINE)
    assert dict(rows) == {name: exact(preset.timeout) for name, preset in catalogue().items()}


def test_the_shipped_file_lists_every_preset() -> None:
    text = (ROOT / "etc/tcp-keepalived/config.toml").read_text(encoding="utf-8")
    listed = re.findall(r"[a-z0-9-]+", text.partition("one of:")[2].partition("#\n")[0])
    assert listed == list(catalogue())


@PROGRAM_PAGE
def test_the_manual_lists_every_exit_status(man: Path, page: str) -> None:
    assert [int(tag) for tag in tags(section(man, page, "EXIT STATUS"))] == sorted(Exit)


def test_every_signal_and_no_other(man: Path) -> None:
    names = {signal.name for signal in ALL}
    assert set(tags(section(man, DAEMON, "SIGNALS"))) == names
    assert set(re.findall(r"\bSIG(?!NALS)[A-Z]+", plain(man, DAEMON))) == names


@PROGRAM_PAGE
def test_the_manual_explains_every_verdict(man: Path, page: str) -> None:
    assert set(tags(section(man, page, "VERDICTS"))) == {verdict.label for verdict in Verdict}


def test_every_message_and_field_of_the_journal(man: Path) -> None:
    messages, _, fields = section(man, DAEMON, "JOURNAL").partition("\n.SS Fields\n")
    rows = re.findall(r"^\.TP\n([a-z-]+) \(.*\)\n(?:.*\n)+?\.br\n([0-9a-f]{32})$", messages, re.MULTILINE)
    assert dict(rows) == entries.MESSAGE_IDS
    sources = "".join(file.read_text(encoding="utf-8") for file in Path(entries.__file__).parent.glob("*.py"))
    assert set(tags(fields)) == set(re.findall(r'"(KEEPALIVE_[A-Z_]+)"', sources))
    assert f"more than {HANDFUL} connections" in messages


def test_every_column_of_the_table(man: Path) -> None:
    assert tuple(tags(section(man, CONTROL, "TABLE"))) == HEADINGS


def environment_read() -> set[str]:
    """Names of variables that any module asks os.environ for."""
    found: set[str] = set()
    for file in Path(keepaliveD.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ")), args=[ast.Constant(value), *_]):
                    found.add(str(value))
                case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value), *_]):
                    found.add(str(value))
                case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value)):
                    found.add(str(value))
                case ast.Compare(left=ast.Constant(value), comparators=[ast.Attribute(attr="environ")]):
                    found.add(str(value))
    return found


def test_every_variable_of_the_environment(man: Path) -> None:
    told = {tag for page in (DAEMON, CONTROL) for tag in tags(section(man, page, "ENVIRONMENT"))}
    assert told == environment_read()


@PROGRAM_PAGE
def test_the_files_are_where_the_code_has_them(man: Path, page: str) -> None:
    files = section(man, page, "FILES")
    drop_ins = DEFAULT_FILE.parent / DROP_INS / "*.toml"
    for file in (DEFAULT_FILE, drop_ins, f"{STATE_DIRECTORY}/found*.json"):
        assert f"\n{file}\n" in files


@ANY_PAGE
def test_a_page_has_its_sections_in_the_usual_order(man: Path, page: str) -> None:
    usual = ("NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO")
    of_program = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES")
    titles = re.findall(r"^\.SH (.*)$", plain(man, page), re.MULTILINE)
    for order in (usual, of_program) if page != FILE else (usual,):
        assert [title for title in titles if title in order] == list(order)


@ANY_PAGE
def test_pages_refer_to_each_other(man: Path, page: str) -> None:
    others = {f"{name.rpartition('.')[0]} ({name[-1]})" for name in PAGES if name != page}
    assert others <= set(re.findall(r"\S+ \(\d\)", section(man, page, "SEE ALSO")))


@ANY_PAGE
def test_what_is_typed_can_be_copied_from_the_page(man: Path, page: str) -> None:
    """A bare dash is a hyphen, which Unicode terminals show as another character."""
    _, _, source = (man / page).read_text(encoding="utf-8").partition("\n")
    assert not re.search(r"--|tcp-keepalived|/\S*[a-z]-", source)


@ANY_PAGE
def test_groff_has_no_complaint(man: Path, page: str) -> None:
    """As lintian asks it."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(man / page)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert not done.stderr


@ANY_PAGE
def test_mandoc_has_no_complaint(man: Path, page: str) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", man / page], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


@ANY_PAGE
def test_no_page_has_a_link_of_markdown(man: Path, page: str) -> None:
    """Which leads nowhere there."""
    assert "](" not in (man / page).read_text(encoding="utf-8")


@ANY_PAGE
def test_no_paragraph_stands_twice(man: Path, page: str) -> None:
    told = [part.partition("\n.SH")[0].strip() for part in plain(man, page).split("\n.PP\n")[1:]]
    assert [each for each in sorted(set(told)) if told.count(each) > 1] == []


@ANY_PAGE
def test_no_line_is_wider_than_a_terminal(man: Path, page: str) -> None:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    command = ["man", "-P", "cat", "-l", str(man / page)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    shown = re.sub(".\b", "", done.stdout)
    assert max(map(len, shown.splitlines())) <= 80


def test_what_is_made_does_not_depend_on_whoever_makes_it(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    generate(ROOT, one, PYTHONHASHSEED="1", COLUMNS="40").check_returncode()
    generate(ROOT, other, PYTHONHASHSEED="2", STATE_DIRECTORY="/tmp/x", LANG="de_DE.UTF-8").check_returncode()
    for file in (file for file in one.rglob("*") if file.is_file()):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes()


CHANGES = {
    "an option": ("keepaliveD/cli/daemon.py", '"--once"', '"--twice"', "--once"),
    "another option": (
        "keepaliveD/cli/arguments.py",
        '    parser.add_argument(\n        "--config"',
        '    parser.add_argument("--new", action="store_true")\n    parser.add_argument(\n        "--config"',
        "--new",
    ),
    "an option without a known kind of value": ("keepaliveD/cli/arguments.py", 'metavar="DIR"', 'metavar="X"', "'X'"),
    "a command": ("keepaliveD/cli/ctl.py", '"presets": ("paths"', '"paths": ("paths"', "presets"),
    "a key": (
        "keepaliveD/config/document.py",
        "    warn_before: WarnBefore",
        "    warn_after: WarnBefore = 1.0\n    warn_before: WarnBefore",
        "warn_after",
    ),
    "a key in the shipped file": ("etc/tcp-keepalived/config.toml", "on_drift =", "on_shift =", "on_shift"),
    "a key of a path": ("keepaliveD/config/document.py", '    interface: Interface = ""\n    t', "    t", "interface"),
    "a signal": ("keepaliveD/daemon/signals.py", "signal.SIGTERM, ", "signal.SIGUSR1, ", "SIGTERM"),
    "an exit status": ("keepaliveD/model/errors.py", "    OK = 0", "    OK = 0\n    OTHER = 1", "OTHER"),
    "a verdict": ("docs/verdicts.md", "| `bare` |", "| `bald` |", "bald"),
    "a message": ("keepaliveD/log/ids.py", '"late": "4e', '"late": "5e', "message ids"),
    "an event": ("packaging/manual/catalog.in", "-- late", "-- slow", "slow"),
    "a column": ("keepaliveD/cli/printing/columns.py", '"idle", "IDLE"', '"idle", "AGE"', "column AGE"),
    "a line of a template": ("packaging/manual/tcp-keepalived.8.in", "@option --once\n", "", "option --once"),
}


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_documented_nowhere_stops_the_generator(tmp_path: Path, change: str) -> None:
    file, old, new, named = CHANGES[change]
    for part in ("keepaliveD", "packaging/manual", "etc", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    done = generate(tmp_path, tmp_path / "out")
    assert done.returncode
    assert named in done.stderr
    assert "Traceback" not in done.stderr
