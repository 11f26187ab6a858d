"""What keepalivectl measure --write does not write, and that it says so before it measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keepaliveD.cli.ctl import main
from keepaliveD.cli.measure.measured import Found
from tests.cli.measure.test_measure import FOUND

TARGET = "127.0.0.1:1"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets that were measured to."""
    targets: list[str] = []

    async def measure(target: object, *_: object, **__: object) -> tuple[Found, bool]:
        targets.append(target.name)  # type: ignore[attr-defined]
        return replace(FOUND, name=targets[-1], address="127.0.0.1"), False

    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", measure)
    return targets


def write(directory: Path, target: str = TARGET) -> int:
    (directory / "config.d").mkdir(exist_ok=True)
    return main(["measure", target, "--write", "--config", str(directory / "config.toml")])


def only(directory: Path) -> Path:
    (file,) = (directory / "config.d").iterdir()
    return file


def test_a_second_measurement_replaces_the_first(tmp_path: Path, measured: list[str]) -> None:
    assert [write(tmp_path), write(tmp_path)] == [0, 0]
    assert measured == [TARGET, TARGET]
    assert only(tmp_path).read_text(encoding="utf-8").count("[[path]]") == 1


def test_what_a_person_has_changed_is_not_replaced(
    tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The networks that a person had widened, as the file asks for, became one address again, without a word."""
    assert write(tmp_path) == 0
    widened = only(tmp_path).read_text(encoding="utf-8").replace("127.0.0.1/32", "127.0.0.0/24")
    only(tmp_path).write_text(widened, encoding="utf-8")
    capsys.readouterr()
    assert write(tmp_path) == 64
    said = capsys.readouterr().err
    assert f"{only(tmp_path)}: changed since it was written, so it is not replaced" in said
    assert said.count("\n") == 1
    assert only(tmp_path).read_text(encoding="utf-8") == widened
    assert measured == [TARGET], "it measured again first"


def test_what_a_person_changes_meanwhile_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def measure(*_: object, **__: object) -> tuple[Found, bool]:
        (tmp_path / "config.d/measured_to_127.0.0.1.toml").write_text("# mine\n", encoding="utf-8")
        return replace(FOUND, name=TARGET), False

    monkeypatch.setattr("keepaliveD.cli.measure.until_known._measure", measure)
    assert write(tmp_path) == 64
    said = capsys.readouterr()
    assert "changed since it was written" in said.err
    assert "[[path]]" in said.out
    assert only(tmp_path).read_text(encoding="utf-8") == "# mine\n"


def test_the_measurement_of_another_port_is_not_replaced(
    tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(tmp_path) == 0
    capsys.readouterr()
    assert write(tmp_path, "127.0.0.1:2") == 64
    assert f"{only(tmp_path)}: measured to {TARGET}, so it is not replaced" in capsys.readouterr().err
    assert measured == [TARGET]


@pytest.mark.parametrize(
    ("there", "complaint"),
    [
        ('name = "to 127.0.0.1"\nnetworks = ["192.0.2.0/24"]\n', "to 127.0.0.1"),
        ('name = "mine"\nnetworks = ["127.0.0.1/32"]\n', "never matches, path mine before it has the same selectors"),
    ],
    ids=["name", "networks"],
)
def test_a_path_that_could_not_be_in_force_is_refused_before_hours_pass(
    there: str, complaint: str, tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One was refused after the measurement; the other was written with "puts it in force"."""
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d/a.toml").write_text(f'[[path]]\n{there}timeout = "60s"\n', encoding="utf-8")
    assert write(tmp_path) == 78
    said = capsys.readouterr().err
    assert complaint in said
    assert "in force" not in said
    assert not measured
    assert only(tmp_path).name == "a.toml"
