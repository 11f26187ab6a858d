"""Units and containers of cgroups, in a tree of files that stands for /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.platforms.linux.owners import cgroups
from keepaliveD.platforms.linux.owners.cgroups import Cgroup, Cgroups


def made(root: Path, path: str) -> int:
    """The id of this cgroup."""
    top = root / "sys/fs/cgroup"
    top.mkdir(parents=True, exist_ok=True)
    (top / "cgroup.controllers").touch()
    (top / path).mkdir(parents=True, exist_ok=True)
    return (top / path).stat().st_ino


def found(root: Path, path: str) -> Cgroup:
    """What it belongs to."""
    cgroup = made(root, path)
    return Cgroups(root).of([cgroup])[cgroup]


def test_the_outline_has_all_but_what_is_below_a_unit_or_container(tmp_path: Path) -> None:
    top, slices, ssh = (made(tmp_path, path) for path in ("", "system.slice", "system.slice/ssh.service"))
    guest, inner = (made(tmp_path, path) for path in ("machine.slice/machine-web.scope", "system.slice/ssh.service/in"))
    outline = {inode: each._replace(path="") for inode, each in Cgroups(tmp_path).outline().items()}
    assert [outline.get(inode) for inode in (top, slices, ssh, guest, inner)] == [
        Cgroup(""),
        Cgroup(""),
        Cgroup("", "ssh.service", whole=True),
        Cgroup("", "machine-web.scope", "web", whole=True),
        None,
    ]


def test_cgroups_as_deep_as_their_maker_likes_are_found(tmp_path: Path) -> None:
    """On Python 3.11, os.walk fails after a thousand levels."""
    deep, other = made(tmp_path, "a.service"), made(tmp_path, "b.service/below")
    levels = [tmp_path / "sys/fs/cgroup/a.service"]
    try:
        for _ in range(1100):
            levels.append(levels[-1] / "d")
            levels[-1].mkdir()
        deep = levels[-200].stat().st_ino
        units = {inode: each.unit for inode, each in Cgroups(tmp_path).of([deep, other]).items()}
    finally:
        for level in reversed(levels):  # pytest fails after a thousand, too
            level.rmdir()
    assert units == {deep: "a.service", other: "b.service"}


def test_whoever_makes_very_many_hides_only_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "MOST_BELOW", 10)
    many = [made(tmp_path, f"a.service/{number}") for number in range(20)]
    other = made(tmp_path, "b.service/below")
    known = Cgroups(tmp_path).of([*many, other])
    assert known[other].unit == "b.service"
    assert 0 < len([inode for inode in many if known[inode].unit == "a.service"]) < 20


# units


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("system.slice/ssh.service", "ssh.service"),
        (
            "system.slice/system-postgresql.slice/postgresql@15-main.service",
            "postgresql@15-main.service",
        ),
        ("user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope", "user@1000.service"),
        ("system.slice/docker-0123abcd.scope", "docker-0123abcd.scope"),
        ("system.slice/docker.service/payload", "docker.service"),
        ("user.slice", ""),
        ("", ""),
        ("init.scope", "init.scope"),
        ("user.slice/user-1000.slice/session-3.scope/amanda@backup.service", "session-3.scope"),
        ("user.slice/user-1000.slice/user@1000.service/system.slice/amanda@backup.service", "user@1000.service"),
        ("lxc.payload.web1/system.slice/amanda@backup.service", ""),
        ("delegated/amanda@backup.service", ""),
        ("x.service.d/y", ""),
    ],
)
def test_the_unit_of_a_cgroup_is_the_outermost(tmp_path: Path, cgroup: str, unit: str) -> None:
    """What is below is named by whoever is in the unit."""
    assert found(tmp_path, cgroup).unit == unit


def test_a_units_name_is_printable(tmp_path: Path) -> None:
    """Whoever may make a cgroup may call it anything."""
    assert found(tmp_path, "a\x1b[2J\n.service").unit == r"a\x1b[2J\n.service"


# containers

ID = "4f5f4ff6b2d8d34bd4e1eb9c27a6c2a8fe91ecdd6a1f8a3f0b0f2d8b7d5d9c11"
OTHER = ID[::-1]
POD = "pod1234abcd_12ab_34cd_56ef_1234567890ab"


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        # docker: systemd and cgroupfs drivers, and with a cgroup of the container's own
        (f"system.slice/docker-{ID}.scope", ID),
        (f"docker/{ID}", ID),
        (f"docker/{ID}/init", ID),
        (f"user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope", ""),
        # podman; that of a user is named by the user
        (f"machine.slice/libpod-{ID}.scope/container", ID),
        (f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ""),
        # cri-o and containerd below kubelet: systemd and cgroupfs drivers, each class of service
        (f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{POD}.slice/crio-{ID}.scope", ID),
        (f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-{POD}.slice/cri-containerd-{ID}.scope", ID),
        (f"kubepods.slice/kubepods-{POD}.slice/cri-containerd-{ID}.scope", ID),
        (f"kubepods/burstable/pod1234abcd-12ab/{ID}", ID),
        (f"kubepods/pod1234abcd-12ab/{ID}", ID),
        (f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{POD}.slice/cri-containerd-{ID}.scope", ID),
        # systemd-nspawn: by hand, as a service, and a unit inside
        ("machine.slice/machine-box.scope/payload", "box"),
        ("machine.slice/systemd-nspawn@box.service/payload/system.slice/ssh.service", "box"),
        # LXC 4 and later, and a unit inside
        ("lxc.payload.web1", "web1"),
        ("lxc.payload.web1/system.slice/ssh.service", "web1"),
        # one in another: the outermost
        (f"lxc.payload.web1/system.slice/docker-{ID}.scope", "web1"),
        (f"system.slice/docker-{OTHER}.scope/kubelet/kubepods/burstable/pod1/{ID}", OTHER),
        (f"kubepods/burstable/pod1/{OTHER}/docker/{ID}", OTHER),
        (f"docker/{OTHER}/kubepods/burstable/pod1/{ID}", OTHER),
        (f"kubepods.slice/kubepods-{POD}.slice/crio-{OTHER}.scope/docker/{ID}", OTHER),
        # podman and cri-o with the cgroupfs driver, nerdctl
        (f"libpod_parent/libpod-{ID}", ID),
        (f"kubepods/burstable/pod1234abcd-12ab/crio-{ID}", ID),
        (f"system.slice/nerdctl-{ID}.scope", ID),
        # systemd escapes a hyphen in a scope's name, and not in an instance's
        (r"machine.slice/machine-my\x2dbox.scope/payload", "my-box"),
        ("machine.slice/systemd-nspawn@my-box.service/payload", "my-box"),
        # LXC 3, LXD, Proxmox
        ("lxc/web1", "web1"),
        ("lxc.payload/web1/system.slice/ssh.service", "web1"),
        ("lxc/101/ns/system.slice/ssh.service", "101"),
        # none: the machinery beside containers, and names that only look like it
        (f"machine.slice/libpod-conmon-{ID}.scope", ""),
        (f"kubepods.slice/kubepods-{POD}.slice/crio-conmon-{ID}.scope", ""),
        ("system.slice/docker.service", ""),
        ("system.slice/docker-0123abcd.scope", ""),
        ("system.slice/containerd.service", ""),
        ("kubepods.slice/kubepods-burstable.slice", ""),
        ("lxc.monitor.web1", ""),
        ("lxc.monitor/101", ""),
        (f"libpod_parent/libpod-conmon-{ID}", ""),
        ("machine.slice", ""),
        (f"system.slice/{ID}.service", ""),
        ("user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope", ""),
        ("", ""),
    ],
)
def test_the_container_of_a_cgroup(tmp_path: Path, cgroup: str, container: str) -> None:
    """As docker, podman, cri-o, containerd, systemd-nspawn and LXC name their cgroups."""
    assert found(tmp_path, cgroup).container == container


def test_a_containers_name_is_printable(tmp_path: Path) -> None:
    assert found(tmp_path, "lxc.payload.a\x1b[2J\n").container == r"a\x1b[2J\n"
