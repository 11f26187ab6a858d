"""The three sysctls, on a tree of files that stands for /proc."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from keepaliveD.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model import Keepalive
from keepaliveD.platforms.linux.sysctl import INTERVAL, PROBES, TIME, ProcSys

KERNEL = {INTERVAL: 75, PROBES: 9, TIME: 7200}
OURS = {INTERVAL: 20, PROBES: 31, TIME: 180}
BOOT = "0e7a5d1c-3f7a-4b19-9f5b-6b1f4e3c2d1a"

Written = Callable[[str, str], str]  # key, text -> what stands afterwards; or it raises OSError


class Proc:
    """A tree of files; what is written to a setting passes through `kernel` first."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.kernel: Written = lambda _, text: text
        self.writes: list[tuple[str, str]] = []
        for key, value in KERNEL.items():
            self.path(key).parent.mkdir(parents=True, exist_ok=True)
            self.path(key).write_text(f"{value}\n")
        random = root / "proc/sys/kernel/random"
        random.mkdir(parents=True)
        (random / "boot_id").write_text(f"{BOOT}\n")
        thread = root / "proc/thread-self/ns"
        thread.mkdir(parents=True)
        (thread / "net").symlink_to("net:[4026531840]")
        monkeypatch.setattr("keepaliveD.platforms.linux.sysctl.open", self.open, raising=False)

    def path(self, key: str) -> Path:
        return self.root / "proc/sys" / key.replace(".", "/")

    def stands(self) -> dict[str, int]:
        return {key: int(self.path(key).read_text()) for key in KERNEL}

    def open(self, path: Path, mode: str, **options: Any) -> IO[str]:
        assert mode == "w"
        key = ".".join(path.relative_to(self.root / "proc/sys").parts)
        proc = self

        class Setting(io.StringIO):
            def close(self) -> None:
                if not self.closed and self.getvalue():
                    text = self.getvalue()
                    super().close()
                    proc.writes.append((key, text))
                    with builtins.open(path, mode, **options) as file:
                        file.write(proc.kernel(key, text))

        return Setting()


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    return Proc(tmp_path, monkeypatch)


def refusing(wrong: str, code: int) -> Written:
    """A kernel that refuses one key."""

    def kernel(key: str, text: str) -> str:
        if key == wrong:
            raise OSError(code, os.strerror(code))
        return text

    return kernel


def test_settings_are_read_as_they_stand(proc: Proc) -> None:
    """What is found is what will be given back, odd values too: -1 means never."""
    assert ProcSys(proc.root).read() == KERNEL
    proc.path(TIME).write_text("-1\n")
    assert ProcSys(proc.root).read() == KERNEL | {TIME: -1}


def test_keepalive_is_named_as_the_kernel_names_it(proc: Proc) -> None:
    """Idle, interval and probes must not change places."""
    names = ProcSys(proc.root).names(Keepalive(idle=180, interval=20, probes=31))
    assert names == {
        "net.ipv4.tcp_keepalive_time": 180,
        "net.ipv4.tcp_keepalive_intvl": 20,
        "net.ipv4.tcp_keepalive_probes": 31,
    }


def test_values_are_written_in_plain_decimal(proc: Proc) -> None:
    """The kernel reads 010 as octal and 0x10 as hexadecimal."""
    ProcSys(proc.root).write(OURS)
    assert dict(proc.writes) == {INTERVAL: "20\n", PROBES: "31\n", TIME: "180\n"}
    assert proc.stands() == OURS


def test_only_what_is_asked_for_is_written(proc: Proc) -> None:
    """A key that has drifted is no reason to touch the others."""
    ProcSys(proc.root).write({TIME: 180})
    assert proc.stands() == KERNEL | {TIME: 180}
    assert len(proc.writes) == 1


def test_nothing_to_write_is_nothing_written(proc: Proc) -> None:
    """Giving back where nothing is ours."""
    ProcSys(proc.root).write({})
    assert proc.writes == []


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "kernel.core_pattern", "../../etc/passwd", ""])
def test_a_key_that_is_not_ours_is_refused_before_anything_is_written(proc: Proc, key: str) -> None:
    """A damaged record must not make a root process write to another file."""
    with pytest.raises(KernelError, match="not a setting of ours"):
        ProcSys(proc.root).write(OURS | {key: 1})
    assert proc.writes == []


@pytest.mark.parametrize("wrong", [INTERVAL, PROBES, TIME])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES])
def test_where_one_value_is_refused_all_stay_as_they_were(proc: Proc, wrong: str, code: int) -> None:
    """A time of 180 s with the kernel's 9 probes would be a setting that nobody chose."""
    proc.kernel = refusing(wrong, code)
    with pytest.raises(Refusal, match=wrong):
        ProcSys(proc.root).write(OURS)
    assert {key: int(proc.path(key).read_text() or KERNEL[key]) for key in KERNEL} == KERNEL


@pytest.mark.parametrize("wrong", [INTERVAL, PROBES, TIME])
def test_a_value_that_reads_back_differently_is_a_failure_and_rolled_back(proc: Proc, wrong: str) -> None:
    """The kernel accepts "10 20" as 10, and older ones clamp; what was asked for must stand, or nothing."""
    proc.kernel = lambda key, text: "19\n" if key == wrong and int(text) == OURS[wrong] else text
    with pytest.raises(KernelError, match=f"{wrong}: set to {OURS[wrong]}, but it reads 19"):
        ProcSys(proc.root).write(OURS)
    assert proc.stands() == KERNEL


def test_a_setting_that_vanishes_after_it_was_written_is_rolled_back_too(proc: Proc) -> None:
    """/proc/sys may be unmounted under us; what still can be put back is."""

    class Vanishing(ProcSys):
        """Reads back nothing from the last key."""

        def _write(self, key: str, value: int) -> None:
            super()._write(key, value)
            if key == TIME and value == OURS[TIME]:
                proc.path(key).unlink()

    with pytest.raises(Unsupported, match=TIME):
        Vanishing(proc.root).write(OURS)
    assert proc.path(INTERVAL).read_text() == "75\n"
    assert proc.path(PROBES).read_text() == "9\n"


def test_a_roll_back_that_fails_for_one_setting_goes_on_with_the_others(proc: Proc) -> None:
    """And what is told is why it came to that."""

    def kernel(key: str, text: str) -> str:
        if key == TIME:
            raise OSError(errno.EINVAL, "Invalid argument")
        if (key, text) == (INTERVAL, "75\n"):
            raise OSError(errno.EIO, "Input/output error")
        return text

    proc.kernel = kernel
    with pytest.raises(KernelError, match=f"{TIME}: cannot be set to 180: Invalid argument"):
        ProcSys(proc.root).write({INTERVAL: 20, PROBES: 31, TIME: 180})
    assert proc.path(PROBES).read_text() == "9\n"


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.EACCES, "CAP_NET_ADMIN"),
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EROFS, "ReadWritePaths=/proc/sys/net.*keepalive.apply = false"),
    ],
)
def test_a_refusal_for_want_of_privilege_names_its_cure(proc: Proc, code: int, cure: str) -> None:
    """The administrator learns what to change, not only that it failed."""
    proc.kernel = refusing(INTERVAL, code)
    with pytest.raises(NotPermitted, match=f"{INTERVAL}: cannot be set to 20: .*: .*{cure}"):
        ProcSys(proc.root).write(OURS)


def test_a_value_that_the_kernel_rejects_is_not_taken_for_a_want_of_privilege(proc: Proc) -> None:
    """More privilege would not help."""
    proc.kernel = refusing(INTERVAL, errno.EINVAL)
    with pytest.raises(KernelError, match="Invalid argument") as refused:
        ProcSys(proc.root).write(OURS)
    assert not isinstance(refused.value, NotPermitted)


@pytest.mark.parametrize("key", KERNEL)
def test_a_kernel_without_a_setting_is_unsupported(proc: Proc, key: str) -> None:
    """In some containers /proc/sys/net is not there; that is said before anything is written."""
    proc.path(key).unlink()
    with pytest.raises(Unsupported, match=key):
        ProcSys(proc.root).read()
    with pytest.raises(Unsupported, match=key):
        ProcSys(proc.root).write(OURS)
    assert proc.writes == []


@pytest.mark.parametrize("content", [b"", b"soon\n", b"10 20\n", b"1.5\n", b"\xff\n"])
def test_a_setting_that_is_no_number_is_refused(proc: Proc, content: bytes) -> None:
    """It could not be given back."""
    proc.path(PROBES).write_bytes(content)
    with pytest.raises(KernelError, match=f"{PROBES}: cannot be read"):
        ProcSys(proc.root).write(OURS)
    assert proc.writes == []


def test_a_setting_that_is_a_directory_is_refused(proc: Proc) -> None:
    """Whatever stands there, no traceback."""
    proc.path(PROBES).unlink()
    proc.path(PROBES).mkdir()
    with pytest.raises(KernelError, match=f"{PROBES}: cannot be read"):
        ProcSys(proc.root).read()


def test_the_identity_is_the_boot_and_the_namespace(proc: Proc) -> None:
    """Values of yesterday's boot, or of a container's namespace, are not to be given back here."""
    assert ProcSys(proc.root).identity == {"boot": BOOT, "netns": "net:[4026531840]"}


@pytest.mark.parametrize("missing", ["proc/sys/kernel/random/boot_id", "proc/thread-self/ns/net"])
def test_a_system_that_cannot_be_told_from_another_is_unsupported(proc: Proc, missing: str) -> None:
    """Without its identity no record may be trusted; said in one line, as everything else."""
    (proc.root / missing).unlink()
    with pytest.raises(Unsupported, match=missing.rpartition("/")[2]):
        _ = ProcSys(proc.root).identity
