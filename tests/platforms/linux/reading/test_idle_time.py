"""The idle time that sockets of a network namespace follow."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.linux.reading.idle_time import IdleTime


def test_a_change_is_told_once(tmp_path: Path) -> None:
    setting = tmp_path / "tcp_keepalive_time"
    setting.write_text("7200\n")
    one = IdleTime(str(setting))
    assert not one.has_changed()
    setting.write_text("100\n")
    assert [one.has_changed(), one.has_changed()] == [True, False]
    one.close()


def test_a_setting_that_is_hidden_never_changes(tmp_path: Path) -> None:
    one = IdleTime(str(tmp_path / "hidden"))
    assert not one.has_changed()
    one.close()
