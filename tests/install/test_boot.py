"""The package on a system that boots, beside each program that brings up networks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.install.machine import KEEPALIVE, UNIT, Machine
from tests.install.packages import Package

MANAGERS = {
    "ifupdown": "networking.service",
    "systemd-networkd": "systemd-networkd.service",
    "NetworkManager": "NetworkManager.service",
}
CLOUD_INIT = {
    "bookworm": ("cloud-init-local.service", "cloud-init.service", "cloud-init.target"),
    "trixie": ("cloud-init-local.service", "cloud-init-network.service", "cloud-init.target"),
}
LAYER = {
    "etc/cloud/ds-identify.cfg": "policy: enabled\n",  # start cloud-init although there is no cloud
    "etc/cloud/cloud.cfg.d/99-test.cfg": "datasource_list: [None]\n"
    "network: {config: disabled}\n"
    "cloud_init_modules: []\ncloud_config_modules: []\ncloud_final_modules: []\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n",
    "etc/systemd/network/here.netdev": "[NetDev]\nName=here\nKind=veth\n[Peer]\nName=there\n",
    "etc/systemd/network/here.network": "[Match]\nName=here there\n[Network]\nLinkLocalAddressing=no\n"
    "Address=10.77.0.1/24\n",
}
PREPARE = """#!/bin/sh
set -eu
dpkg --install /root/package.deb > /dev/null
systemctl --quiet disable {others}
systemctl --quiet enable {manager} {unit}
"""


def write_layer(directory: Path, package: Package, manager: str) -> None:
    """Write what turns that system into one with the package, cloud-init and this manager of networks."""
    others = " ".join(unit for unit in MANAGERS.values() if unit != manager)
    files = LAYER | {"prepare": PREPARE.format(manager=manager, others=others, unit=UNIT)}
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (directory / "prepare").chmod(0o755)
    (directory / "root").mkdir()
    shutil.copy(package.file, directory / "root/package.deb")


def began(machine: Machine, unit: str, what: str) -> int:
    """Return the microseconds from the boot until this happened to a unit."""
    return int(machine.run("systemctl", "show", "--value", f"--property={what}TimestampMonotonic", unit).stdout)


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_machine_boots_with_cloud_init_and_is_tuned_before_its_network(
    suite: str, networks: Path, package: Package, tmp_path: Path, manager: str
) -> None:
    """systemd breaks an ordering cycle by leaving out one of its units; it says so before there is a journal here."""
    write_layer(tmp_path, package, MANAGERS[manager])
    with Machine(suite, networks, tmp_path) as machine:
        for unit in (UNIT, MANAGERS[manager], "network-pre.target", *CLOUD_INIT[suite]):
            assert machine.says("active", "systemctl", "is-active", unit), unit
        assert machine.keepalive == KEEPALIVE
        tuned = began(machine, UNIT, "ActiveEnter")
        assert 0 < tuned <= began(machine, "network-pre.target", "ActiveEnter")
        assert tuned <= began(machine, MANAGERS[manager], "InactiveExit")
