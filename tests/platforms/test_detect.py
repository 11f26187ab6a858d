"""Which system this is: by Python's word for it, or by the name that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepaliveD.model.errors import Unsupported
from keepaliveD.platforms import NAMES, detect


@pytest.mark.parametrize(
    ("platform", "release", "version", "name"),
    [
        ("linux", "", "", "linux"),
        ("freebsd14", "", "", "freebsd"),
        ("dragonfly6", "", "", "dragonfly"),
        ("darwin", "", "", "macos"),
        ("openbsd7", "", "", "openbsd"),
        ("netbsd10", "", "", "netbsd"),
        ("sunos5", "5.10", "Generic_150400-64", "solaris10"),
        ("sunos5", "5.11", "11.3", "solaris11"),
        ("sunos5", "5.11", "11.4.0.15.0", "solaris11"),
        ("sunos5", "5.11", "illumos-1b2c3d4e5f", "illumos"),
        ("sunos5", "5.11", "omnios-r151046-5f2c8d1", "illumos"),
        ("sunos5", "5.11", "joyent_20240118T000626Z", "illumos"),
        ("hp-ux11", "", "", "hpux"),
        ("aix", "", "", "aix"),
        ("aix7", "", "", "aix"),
    ],
)
def test_each_system_is_known_by_what_python_and_the_kernel_call_it(
    monkeypatch: pytest.MonkeyPatch, platform: str, release: str, version: str, name: str
) -> None:
    """Python's word carries a version on most of them."""
    monkeypatch.setattr(sys, "platform", platform)
    uname = os.uname_result(("SunOS", "host", release, version, "i86pc"))
    monkeypatch.setattr(os, "uname", lambda: uname)
    assert detect().name == name


@pytest.mark.parametrize("name", ["windows", "win32", "plan9", "Linux", "../linux"])
def test_a_system_that_is_not_known_is_unsupported_and_the_known_ones_are_reported(name: str) -> None:
    """Nothing silently does nothing."""
    with pytest.raises(Unsupported, match=f"{name}: system not supported; supported are linux, freebsd, .*, aix"):
        detect(name)


def test_a_running_system_that_is_not_known_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that Python gives it."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(Unsupported, match="win32: system not supported"):
        detect()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_platform_that_is_called_so(name: str, tmp_path: Path) -> None:
    """A name that is offered and leads nowhere would be a lie in the manual."""
    assert detect(name, tmp_path).name == name


@pytest.mark.parametrize("name", [name for name in NAMES if name != "linux"])
def test_no_other_system_loads_what_is_linux_only(name: str, tmp_path: Path) -> None:
    """Netlink and namespaces do not exist there, and importing them must not be what fails."""
    script = (
        "import sys; from pathlib import Path; from keepaliveD.cli import ctl, daemon, living\n"
        "from keepaliveD.platforms import detect\n"
        "detect(sys.argv[1], Path(sys.argv[2])); print(*sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, name, str(tmp_path)], capture_output=True, text=True, check=True
    )
    loaded = [module for module in answer.stdout.split() if module.startswith("keepaliveD.platforms.linux")]
    assert loaded == []
