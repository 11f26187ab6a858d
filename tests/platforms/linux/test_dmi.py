"""The cloud that the firmware names, from the texts that each of them has."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.config.configuration import CLOUDS
from keepaliveD.platforms import detect
from keepaliveD.platforms.linux.dmi import CLOUDS as KNOWN
from keepaliveD.platforms.linux.dmi import cloud

ELSEWHERE = {"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)", "chassis_asset_tag": ""}


def firmware(root: Path, **texts: str) -> Path:
    """A tree with the files of sysfs."""
    files = root / "sys/class/dmi/id"
    files.mkdir(parents=True)
    for name, text in texts.items():
        (files / name).write_text(f"{text}\n", encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "Google Compute Engine"),
        (
            {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"},
            "Microsoft Azure",
        ),
        ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "5219-1111-2222"}, ""),  # Hyper-V at home
        ({"sys_vendor": "Amazon EC2", "product_name": "c7i.large"}, "Amazon EC2"),
        ({"sys_vendor": "Google", "product_name": "Kled"}, ""),  # a Chromebook
        ({}, ""),
    ],
)
def test_the_firmware_names_the_cloud(texts: dict[str, str], name: str, tmp_path: Path) -> None:
    assert cloud(firmware(tmp_path, **ELSEWHERE | texts)) == name
    assert detect("linux", tmp_path).cloud() == name


def test_a_machine_without_firmware_tables_is_in_no_cloud(tmp_path: Path) -> None:
    assert cloud(tmp_path) == ""


def test_text_that_is_no_text_is_no_cloud(tmp_path: Path) -> None:
    root = firmware(tmp_path)
    (root / "sys/class/dmi/id/product_name").write_bytes(b"\xff\x00" * 5000)
    (root / "sys/class/dmi/id/sys_vendor").mkdir()
    assert cloud(root) == ""


def test_every_cloud_that_is_known_has_a_preset() -> None:
    assert {name for _, _, name in KNOWN} == CLOUDS.keys()
