"""What the handbook claims, and the code or the documents can show: its configuration, commands, links and tables."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.cli import ctl, daemon
from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.model.causes import Cause
from keepaliveD.model.connections import Verdict
from tests.handbook.documents import DOCUMENTS, ROOT, anchors, blocks, journal_queries, spans, text

OTHERS = ("CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "packaging/README.md")
ALL = (*DOCUMENTS, *sorted((ROOT / "docs/decisions").glob("*.md")), *(ROOT / other for other in OTHERS))
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
PROGRAMS = ("keepalivectl", "tcp-keepalived")


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


CONFIGURATIONS = [
    pytest.param(block, id=f"{name(document)}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(blocks(text(document), "toml"), 1)
]


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_every_configuration_is_one_that_check_accepts(
    block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a warning."""
    file = tmp_path / "config.toml"
    file.write_text(block, encoding="utf-8")
    assert (ctl.main(["check", str(file)]), capsys.readouterr().err) == (0, "")


def command_lines(document: Path) -> Iterator[list[str]]:
    """Yield the words of each call of our programs in blocks of shell."""
    for block in blocks(text(document), "sh"):
        for line in block.splitlines():
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part.strip().removeprefix("$ "), comments=True)
                if words and words[0] in PROGRAMS:
                    yield words


TYPED = [pytest.param(words, id=" ".join(words)) for document in DOCUMENTS for words in command_lines(document)]


@pytest.mark.parametrize("words", TYPED)
def test_every_command_line_is_one_that_the_program_takes(words: list[str]) -> None:
    parser = ctl.parser() if words[0] == "keepalivectl" else daemon.parser()
    parser.parse_args(words[1:])


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of the daemon, and of each command of keepalivectl."""
    control = ctl.parser()
    (commands,) = [each for each in control._actions if isinstance(each, argparse._SubParsersAction)]
    return {"tcp-keepalived": daemon.parser(), "keepalivectl": control, **commands.choices}


NAMED = sorted({span for document in DOCUMENTS for span in spans(text(document)) if span.split()[0] in PROGRAMS})


@pytest.mark.parametrize("span", NAMED)
def test_every_command_that_is_named_exists_with_its_options(span: str) -> None:
    known = parsers()
    words = span.split()
    command = words[0]
    if command == "keepalivectl" and len(words) > 1:
        command = words[1]
        assert command in known
    options = {flag for action in known[command]._actions for flag in action.option_strings}
    assert {word.partition("=")[0] for word in words[1:] if word.startswith("-")} <= options


def test_every_script_that_is_named_exists() -> None:
    named = {found for document in ALL for found in re.findall(r"\bscript/[a-z-]+", text(document))}
    assert [each for each in sorted(named) if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("document", ALL, ids=name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(CODE.sub("", text(document))):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}: there is no such place"


def test_every_verdict_cause_and_message_has_a_place() -> None:
    assert {verdict.label for verdict in Verdict} <= anchors(ROOT / "docs/verdicts.md")
    assert {cause.key for cause in Cause} <= anchors(ROOT / "docs/deaths.md")
    assert set(MESSAGE_IDS) <= anchors(ROOT / "docs/journal.md")


def test_every_page_is_found_from_the_first() -> None:
    """By links alone."""
    found: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        document = left.pop()
        found.add(document)
        linked = {(document.parent / target).resolve() for target, _ in LINK.findall(CODE.sub("", text(document)))}
        left += [each for each in linked - found if each.suffix == ".md"]
    assert set(DOCUMENTS) <= found


def test_what_the_code_knows_stands_in_the_documents(tmp_path: Path) -> None:
    """After a change of the catalogue or of the requirements: script/docs --write."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    subprocess.run([sys.executable, ROOT / "packaging/handbook/parts.py", tmp_path], check=True)
    for document in DOCUMENTS:
        assert text(tmp_path / document.relative_to(ROOT)) == text(document), "run script/docs --write"


SCREENS = {"status": "status/overview.py", "why": "why/page.py"}  # which module of the command line words it


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_shows_the_facts_that_the_program_shows(screen: str) -> None:
    """Of a label that is no more, or that is called otherwise now: script/docs --screens."""
    (shown,) = re.findall(rf"<!-- screen: {screen} -->\n```\n(.*?)```", text(ROOT / "README.md"), re.DOTALL)
    labels = set(re.findall(r"^ {0,2}([a-z]+(?: [a-z]+)?) {2,}\S", shown, re.MULTILINE))
    source = text(ROOT / "keepaliveD/cli" / SCREENS[screen])
    assert len(labels) > 4
    assert {label for label in labels if f'"{label}"' not in source} == set()


def test_every_fact_of_a_measurement_is_explained() -> None:
    """A fact of `keepalivectl measure` begins with its label."""
    labels = set(re.findall(r'yield "([a-z ]+)", ', text(ROOT / "keepaliveD/cli/measure/measured.py")))
    assert len(labels) > 8
    assert labels <= set(spans(text(ROOT / "docs/paths.md"))) | {"stopped by"}  # which is in a block there


def test_the_readme_names_two_commands_to_begin_with() -> None:
    first, *_ = blocks(text(ROOT / "README.md"), "sh")
    assert [line.split()[0] for line in first.splitlines()] == ["script/run", "script/test"]


def test_every_metric_that_is_named_exists() -> None:
    """A metric is the first argument where its value is made."""
    sources = [*(ROOT / "keepaliveD").rglob("exposition.py"), *(ROOT / "keepaliveD").rglob("metrics.py")]
    made = re.compile(r'(?:etric|_one)\(\s*"(?:tcp_keepalive_)?([a-z_]+)"')
    known = {found for source in sources for found in made.findall(text(source))}
    named = set(re.findall(r"\btcp_keepalive_([a-z_]+)\b", text(ROOT / "docs/monitoring.md")))
    assert named
    assert named <= known


@pytest.mark.long
def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    """Each page is there, and search knows the manual pages."""
    command = [sys.executable, str(ROOT / "packaging/handbook/make_site.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    made = {str(page.relative_to(tmp_path)) for page in tmp_path.rglob("*.html")}
    expected = {name(document).removesuffix(".md") + ".html" for document in DOCUMENTS if document.name != "README.md"}
    assert expected <= made
    index = (tmp_path / "search/search_index.json").read_text(encoding="utf-8")
    for word in ("man/keepalivectl.1.html", "docs/deaths.html#which-are-logged", "docs/recipes/amanda.html"):
        assert word in index


def test_no_query_of_the_journal_finds_what_somebody_else_has_written() -> None:
    """Anybody may write entries with our message ids and fields; only journald says of which unit they are."""
    assert len(journal_queries()) >= 4
    for query in journal_queries():
        for alternative in " ".join(query).split(" + "):
            assert "_SYSTEMD_UNIT=" in alternative, query
            if "KEEPALIVE_" in alternative or "MESSAGE_ID=" in alternative:
                assert "_SYSTEMD_UNIT=tcp-keepalived.service" in alternative.split(), query
