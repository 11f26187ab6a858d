"""What is offered to somebody whose word names nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.cli.targets import nearest, units
from keepaliveD.cli.targets.nearest import Besides, did_you_mean, nothing_called

NAMES = ("amanda@backup.service", "amandad", "ssh.service", "postgresql@15-main.service", "cron", "user@1000.service")


@pytest.fixture(autouse=True)
def systemd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What runs here by systemd's word, which knows nothing else."""
    known = ["nginx.service"]
    monkeypatch.setattr(units, "names", lambda: known)
    monkeypatch.setattr(units, "is_missing", lambda unit: unit not in known)
    return known


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "812").mkdir()
    (tmp_path / "812/comm").write_text("sshd\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("amanda", "amanda@backup.service or amandad"),
        ("backup", "amanda@backup.service"),
        ("amnadad", "amandad"),
        ("sshd", "ssh.service"),
        ("sshd.service", "ssh.service"),
        ("SSH", "ssh.service"),
        ("postgres", "postgresql@15-main.service"),
        ("postgresql@15", "postgresql@15-main.service"),
        ("gresql", "postgresql@15-main.service"),
        ("corn", "cron"),
    ],
)
def test_half_a_name_and_a_mistyped_one_lead_to_the_whole(word: str, meant: str) -> None:
    assert did_you_mean(word, NAMES) == f"; did you mean {meant}?"


@pytest.mark.parametrize("word", ["", "x", "am*", "a", "er", "nothing", "service", "\x1b[2J", "amanda" * 100_000])
def test_nothing_is_offered_that_is_not_near(word: str) -> None:
    assert not did_you_mean(word, NAMES)


def test_three_names_are_offered_at_most_and_those_of_others_are_made_harmless() -> None:
    assert did_you_mean("web", ["web\n1", "web 2", "web3", "web4"]) == r'; did you mean "web\\n1", "web 2" or web3?'


def test_a_name_of_nothing_is_said_to_be_that(proc: Path) -> None:
    assert nothing_called("amanda", NAMES, proc) == (
        "no unit or process is called amanda; did you mean amanda@backup.service or amandad?"
    )
    assert nothing_called("ngin", NAMES, proc) == "no unit or process is called ngin; did you mean nginx.service?"
    assert nothing_called("x", NAMES, proc) == f"no unit or process is called x; {nearest.LISTS}"


def test_what_runs_without_a_connection_is_not_said_to_be_missing(proc: Path) -> None:
    """A server that only listens leaves its connections to others."""
    assert nothing_called("sshd", NAMES, proc) == "sshd has no connection; did you mean ssh.service?"
    assert nothing_called("nginx", [], proc) == f"nginx has no connection; {nearest.LISTS}"


def test_keepalivectl_itself_is_not_offered(proc: Path) -> None:
    (proc / "self").symlink_to("812")
    assert nothing_called("shd", [], proc) == f"no unit or process is called shd; {nearest.LISTS}"


def test_where_systemd_cannot_be_asked_no_unit_is_said_to_be_missing(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "is_missing", lambda _: False)
    assert nothing_called("shd", [], proc) == "shd has no connection; did you mean sshd?"


def test_what_else_could_have_been_named_is_said_too(proc: Path) -> None:
    besides = Besides("; of settings, name one of all, time", ["all", "time"])
    assert nothing_called("tiem", [], proc, besides) == (
        "no unit or process is called tiem; of settings, name one of all, time; did you mean time?"
    )
