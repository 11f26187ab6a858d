"""The three sysctls, on a tree of files that stands for /proc."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.model.keepalive import Keepalive
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
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def path(self, key: str) -> Path:
        return self.root / "proc/sys" / key.replace(".", "/")

    def stands(self) -> dict[str, int]:
        return {key: int(self.path(key).read_text()) for key in KERNEL}

    def pwrite(self, file: int, octets: bytes, offset: int) -> int:
        assert offset == 0
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        key = ".".join(path.relative_to(self.root / "proc/sys").parts)
        text = octets.decode("ascii")
        self.writes.append((key, text))
        path.write_text(self.kernel(key, text))
        return len(octets)


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
    """What is found is what will be restored, odd values too: -1 means never."""
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
    assert ProcSys(proc.root).exchange(TIME, 7200, 180) == 7200
    assert proc.writes == [(TIME, "180\n")]
    assert proc.stands() == KERNEL | {TIME: 180}


def test_what_is_not_expected_is_not_overwritten(proc: Proc) -> None:
    """Somebody else has just written it, and nobody has recorded it yet."""
    proc.path(TIME).write_text("600\n")
    assert ProcSys(proc.root).exchange(TIME, 7200, 180) == 600
    assert proc.writes == []


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "kernel.core_pattern", "../../etc/passwd", ""])
def test_a_key_that_is_not_ours_is_refused_before_anything_is_written(proc: Proc, key: str) -> None:
    """A damaged record must not make a root process write to another file."""
    with pytest.raises(KernelError, match="not a keepalive setting"):
        ProcSys(proc.root).exchange(key, 0, 1)
    assert proc.writes == []


def test_a_write_that_changes_nothing_is_a_failure(proc: Proc) -> None:
    """Some sandboxes take any value and keep their own."""
    proc.kernel = lambda key, _: f"{KERNEL[key]}\n"
    with pytest.raises(KernelError, match=f"{TIME}: set to 180, but the kernel reports 7200"):
        ProcSys(proc.root).exchange(TIME, 7200, 180)


def test_a_third_value_is_somebody_elses_that_came_right_after_ours(proc: Proc) -> None:
    """The kernel takes a value as it is or refuses it; the next look finds that ours no longer stands."""
    proc.kernel = lambda *_: "600\n"
    assert ProcSys(proc.root).exchange(TIME, 7200, 180) == 7200
    assert proc.stands()[TIME] == 600


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "CAP_NET_ADMIN"),
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EROFS, "ReadWritePaths=/proc/sys/net.*keepalive.apply = false"),
    ],
)
def test_a_refusal_for_want_of_privilege_names_its_remedy(proc: Proc, code: int, remedy: str) -> None:
    """The administrator learns what to change, not only that it failed."""
    proc.kernel = refusing(INTERVAL, code)
    with pytest.raises(NotPermitted, match=f"{INTERVAL}: cannot be set to 20: .*: .*{remedy}"):
        ProcSys(proc.root).exchange(INTERVAL, 75, 20)


def test_a_value_that_the_kernel_rejects_is_not_taken_for_a_want_of_privilege(proc: Proc) -> None:
    """More privilege would not help."""
    proc.kernel = refusing(INTERVAL, errno.EINVAL)
    with pytest.raises(KernelError, match="Invalid argument") as refused:
        ProcSys(proc.root).exchange(INTERVAL, 75, 20)
    assert not isinstance(refused.value, NotPermitted)


@pytest.mark.parametrize("key", KERNEL)
def test_a_kernel_without_a_setting_is_unsupported(proc: Proc, key: str) -> None:
    """In some containers /proc/sys/net is not there; that is said before anything is written."""
    proc.path(key).unlink()
    with pytest.raises(Unsupported, match=key):
        ProcSys(proc.root).read()
    with pytest.raises(Unsupported, match=key):
        ProcSys(proc.root).exchange(key, KERNEL[key], OURS[key])
    assert proc.writes == []


@pytest.mark.parametrize("content", [b"", b"soon\n", b"10 20\n", b"1.5\n", b"\xff\n"])
def test_a_setting_that_is_no_number_is_refused(proc: Proc, content: bytes) -> None:
    """It could not be restored."""
    proc.path(PROBES).write_bytes(content)
    with pytest.raises(KernelError, match=f"{PROBES}: cannot be read"):
        ProcSys(proc.root).exchange(PROBES, 9, 31)
    assert proc.writes == []


@pytest.mark.parametrize("call", ["open", "pread", "pwrite", "close", "readlink"])
def test_whatever_fails_with_whatever_error_is_a_refusal_in_one_line(proc: Proc, call: str) -> None:
    """Never a traceback."""
    for code in errno.errorcode:
        proc.path(TIME).write_text("7200\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, failing(code))
            works: list[Callable[[], object]] = [
                lambda: ProcSys(proc.root).identity,
                ProcSys(proc.root).read,
                lambda: ProcSys(proc.root).exchange(TIME, 7200, 180),
            ]
            for work in works:
                with contextlib.suppress(Refusal):
                    work()


def failing(code: int) -> Callable[..., None]:
    """What always fails with this error."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_setting_that_is_a_directory_is_refused(proc: Proc) -> None:
    """Whatever stands there, no traceback."""
    proc.path(PROBES).unlink()
    proc.path(PROBES).mkdir()
    with pytest.raises(KernelError, match=f"{PROBES}: cannot be read"):
        ProcSys(proc.root).read()


def test_a_fifo_that_is_mounted_over_a_setting_is_refused_and_not_waited_for(proc: Proc) -> None:
    proc.path(TIME).unlink()
    os.mkfifo(proc.path(TIME))
    for use in (ProcSys(proc.root).read, lambda: ProcSys(proc.root).exchange(TIME, 7200, 180)):
        with pytest.raises(KernelError, match=f"{TIME}: cannot be (read|set to 180): "):
            use()


def test_the_identity_is_the_boot_and_the_namespace(proc: Proc) -> None:
    """Values of yesterday's boot, or of a container's namespace, are not to be given back here."""
    identity = dict(ProcSys(proc.root).identity)
    assert int(identity.pop("cookie")) > 0
    assert identity == {"boot": BOOT, "netns": "net:[4026531840]"}


@pytest.mark.parametrize("missing", ["proc/sys/kernel/random/boot_id", "proc/thread-self/ns/net"])
def test_a_system_that_cannot_be_told_from_another_is_unsupported(proc: Proc, missing: str) -> None:
    """Without its identity no record may be trusted; said in one line, as everything else."""
    (proc.root / missing).unlink()
    with pytest.raises(Unsupported, match=missing.rpartition("/")[2]):
        _ = ProcSys(proc.root).identity


def test_an_empty_boot_id_names_no_boot(proc: Proc) -> None:
    """All boots of such a system would be one, and records of the last one would be restored in the next."""
    (proc.root / "proc/sys/kernel/random/boot_id").write_text("\n")
    with pytest.raises(Unsupported, match="boot_id: is empty"):
        _ = ProcSys(proc.root).identity
