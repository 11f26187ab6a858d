"""What an earlier why --fix has written is found, and not written again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keepaliveD.cli.why.earlier import place_of, without_written
from keepaliveD.cli.why.forgotten import HelpfulPath
from keepaliveD.cli.why.solutions import Solution

RULE = {"unit": "amanda.service", "action": "enable", "idle": "auto"}
PATH = HelpfulPath("to 10.20.0.9", "10.20.0.9/32", 'timeout = "50s"  # half of 1min 40s')
OF_PATH = {"path": PATH.name, **RULE}
RULE_ALONE = Solution(rules=(tuple(RULE.items()),))
WANTED = Solution((PATH,), (tuple(RULE.items()),), 'interval = "5s"')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config.d").mkdir()
    return tmp_path / "config.toml"


def write(config: Path, name: str, text: str) -> Path:
    file = config.parent / "config.d" / name
    file.write_text(text)
    return file


def rule(**keys: object) -> str:
    return "[[arm]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def test_a_pipe_in_the_directory_is_no_file_that_could_be_waited_for(config: Path) -> None:
    """A daemon and check refuse it."""
    pipe = config.parent / "config.d/00-why-amanda.service.toml"
    os.mkfifo(pipe)
    assert without_written(WANTED, config, pipe) == (WANTED, [])
    assert place_of(RULE_ALONE, config) == pipe.with_name("00-why-amanda.service-2.toml")


OTHER = {"process": "alpha", "action": "enable", "idle": "auto"}


@pytest.mark.parametrize(
    ("there", "stays"),
    [
        (rule(**RULE), False),
        (rule(**{**RULE, "idle": "1min"}), False),
        (rule(**RULE, networks=["10.0.0.0/8"]), True),
        (rule(**RULE) + rule(**OTHER), True),
        ("# ticket 31\n" + rule(**RULE), True),
        ('[watch]\ninterval = "5s"\n' + rule(**RULE), True),
        ("no TOML", True),
        ("", False),
    ],
    ids=["the same", "other times", "narrowed", "another rule", "a note", "a key", "no TOML", "nothing"],
)
def test_a_file_in_which_there_is_more_than_an_earlier_call_wrote_stays(
    config: Path, there: str, *, stays: bool
) -> None:
    file = write(config, "00-why-amanda.service.toml", there)
    another = file.with_name("00-why-amanda.service-2.toml")
    assert place_of(RULE_ALONE, config) == (another if stays else file)
    assert sorted([file, another]) == [another, file]  # the first rule that matches counts


def test_a_path_with_another_timeout_takes_the_place_of_the_earlier_one(config: Path) -> None:
    file = write(config, "00-why-to_10.20.0.9.toml", "\n".join(WANTED.lines).replace("50s", "9min"))
    assert place_of(WANTED, config) == file


@pytest.mark.parametrize(
    ("there", "covers"),
    [
        ({}, True),
        ({"interval": "10s", "probes": 9}, True),
        ({"path": "to 10.20.0.9"}, False),
        ({"unit": "ssh.service"}, False),
        ({"action": "observe"}, False),
        ({"idle": "1min"}, False),
    ],
)
def test_a_rule_is_written_already_where_one_arms_the_same_connections(
    config: Path, there: dict[str, object], *, covers: bool
) -> None:
    file = write(config, "00-why-amanda.service.toml", rule(**{**RULE, **there}))
    rest, files = without_written(WANTED, config, file.with_name("00-why-new.toml"))
    assert (rest, files) == ((WANTED._replace(rules=()), [file]) if covers else (WANTED, []))


def test_a_rule_for_a_path_is_written_already_where_one_arms_its_unit_on_all_paths(config: Path) -> None:
    file = write(config, "00-why-amanda.service.toml", rule(**RULE))
    wanted = Solution((PATH,), (tuple(OF_PATH.items()),))
    assert without_written(wanted, config, file.with_name("00-why-new.toml")) == (Solution((PATH,)), [file])


def test_a_user_is_a_number_in_the_file(config: Path) -> None:
    file = write(config, "00-why-1000.toml", rule(user=1000, action="enable", idle="auto"))
    wanted = Solution(rules=((("user", "1000"), ("action", "enable"), ("idle", "auto")),))
    assert without_written(wanted, config, file.with_name("00-why-new.toml")) == (Solution(), [file])


@pytest.mark.parametrize(("timeout", "covers"), [("50s", True), ("20s", False)])
def test_a_path_is_written_already_with_the_same_timeout_and_needs_no_interval_then(
    config: Path, timeout: str, *, covers: bool
) -> None:
    text = f'[[path]]\nname = "to 10.20.0.9"\nnetworks = ["10.20.0.9/32"]\ntimeout = "{timeout}"\n'
    file = write(config, "00-why-both.toml", text)
    rest, files = without_written(WANTED, config, file.with_name("00-why-new.toml"))
    assert (rest, files) == ((Solution(rules=WANTED.rules), [file]) if covers else (WANTED, []))


def test_what_stands_in_the_file_that_is_replaced_is_written_again_unless_it_is_all(config: Path) -> None:
    file = write(config, "00-why-x.toml", rule(**RULE))
    assert without_written(WANTED, config, file) == (WANTED, [])
    file.write_text("\n".join(WANTED.lines) + "\n")
    assert without_written(WANTED, config, file) == (Solution(), [file])


def test_what_people_write_in_files_of_their_own_is_not_looked_at(config: Path) -> None:
    """A rule of theirs may be shadowed, and why --fix changes no line of theirs."""
    file = write(config, "50-mine.toml", rule(**RULE))
    assert without_written(WANTED, config, file.with_name("00-why-new.toml")) == (WANTED, [])


@pytest.mark.parametrize(
    "text",
    ["not TOML", "arm = 5\npath = {}", "arm = [5]\npath = [1]", '[[path]]\nname = "to 10.20.0.9"\n', "x=" + "[" * 9000],
)
def test_a_file_that_somebody_has_changed_hides_nothing(config: Path, text: str) -> None:
    file = write(config, "00-why-other.toml", text)
    assert without_written(WANTED, config, file.with_name("00-why-new.toml")) == (WANTED, [])
    file.write_bytes(b"\xff")
    assert without_written(WANTED, config, file.with_name("00-why-new.toml")) == (WANTED, [])
    file.unlink()
    file.mkdir()
    assert without_written(WANTED, config, file.with_name("00-why-new.toml")) == (WANTED, [])
    assert without_written(WANTED, config.parent / "nowhere/config.toml", file) == (WANTED, [])
