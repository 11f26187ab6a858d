"""How a daemon is started, and which configuration it reads then."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.cli.starting import UNITS, file_to_be_read, how_to_start


@pytest.mark.parametrize("directory", UNITS)
def test_where_a_unit_is_installed_it_is_started_and_else_the_clone(tmp_path: Path, directory: str) -> None:
    """There is no unit of a program that runs from a clone: systemctl would only say so."""
    run = str(Path(__file__).parents[2] / "script/run")
    assert how_to_start(tmp_path) == run
    assert how_to_start(tmp_path, Path("/srv/my own.toml")) == f"{run} --config '/srv/my own.toml'"
    (tmp_path / directory).mkdir(parents=True)
    (tmp_path / directory / "tcp-keepalived.service").touch()
    assert how_to_start(tmp_path) == "systemctl start tcp-keepalived"
    assert file_to_be_read(tmp_path) is None


def test_the_daemon_of_a_clone_reads_the_clones_configuration_unless_etc_has_one(tmp_path: Path) -> None:
    """Which one is said by what script/run passes."""
    clone = Path(__file__).parents[2]
    its = file_to_be_read(tmp_path)
    assert its
    assert its.exists()
    run = clone / "script/run"
    assert f" --config {its.relative_to(clone)} " in run.read_text(encoding="utf-8")
    assert how_to_start(tmp_path, its) == str(run)
    (tmp_path / "etc/tcp-keepalived").mkdir(parents=True)
    (tmp_path / "etc/tcp-keepalived/config.toml").touch()
    assert file_to_be_read(tmp_path) is None
    assert how_to_start(tmp_path) == f"{run} --config /etc/tcp-keepalived/config.toml"
