"""What was found can always be restored: beside other writers, on a disk that fails, with a record that is damaged."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.model.errors import Exit
from tests.support.patience import SOON
from tests.support.processes import CTL, SCAN, TUNED, Daemon, Home, configuration
from tests.support.rig import INTERVAL, PROBES, TIME, UNTUNED, Namespace

FOUND = {TIME: 7001, INTERVAL: 71, PROBES: 8}
THEIRS = 4321
STRACE = ("strace", "-f", "-D", "-qq", "--seccomp-bpf", "--output=/dev/null")  # -D: the program keeps its process id

STOPPING = tuple(word for word in STRACE if word != "--seccomp-bpf")  # by which strace would deliver no signal


def failing(calls: str, how: str) -> tuple[str, ...]:
    """Run what follows with this done to these system calls."""
    return (*STRACE, f"--trace={calls}", f"--inject={calls}:{how}")


def restore(home: Home, host: Namespace) -> subprocess.CompletedProcess[str]:
    """What keepalivectl restore does there."""
    return host.run(*CTL, "restore", f"--state-dir={home.state}")


def leave_behind(home: Home, host: Namespace) -> None:
    """A daemon that is killed leaves its settings, and the record of what it found."""
    with home.daemon(host) as daemon:
        daemon.kill()
    assert host.keepalive == TUNED


def record_of(home: Home) -> Path:
    """The one record in the state directory."""
    (record,) = home.state.glob("found*.json")
    return record


def awaited(what: Callable[[], bool], within: float = SOON) -> bool:
    """Whether it comes true in time; asked often, because no event tells of it."""
    deadline = time.monotonic() + within
    while not (true := what()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return true


def goes_on(pid: int, done: bool) -> bool:
    """Wake a process that may be stopped, or is just about to be, unless it is done; return whether it is."""
    if not done:
        os.kill(pid, signal.SIGCONT)
    return done


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as host:
        yield host


# somebody else writes at the same moment


def test_a_value_written_by_others_before_our_write_is_what_they_get_back(tmp_path: Path, host: Namespace) -> None:
    """Between the look at a setting and the write there is the record, which may take long on a busy disk."""
    home = Home(tmp_path, configuration())
    slow = (*STOPPING, "--trace=fsync", "--inject=fsync:signal=SIGSTOP:when=1")
    with home.starting(host, through=slow) as daemon:
        assert awaited(lambda: any(home.state.glob("found*.new")))
        host.set_sysctl(TIME, THEIRS)
        assert awaited(lambda: goes_on(daemon.pid, bool(daemon.heard("started"))))
        applied = daemon.expect("applied", within=SOON, KEEPALIVE_SYSCTL=TIME)
        assert applied["KEEPALIVE_FOUND"] == THEIRS
        assert host.keepalive == TUNED
        daemon.stop()
        assert host.keepalive == UNTUNED | {TIME: THEIRS}


def test_a_value_written_by_others_while_ours_is_restored_stays(tmp_path: Path, host: Namespace) -> None:
    """It is compared once more when it is its turn."""
    home = Home(tmp_path, configuration())
    leave_behind(home, host)
    path = "/proc/sys/" + TIME.replace(".", "/")
    slow = (*STOPPING, f"--trace-path={path}", "--trace=openat", "--inject=openat:signal=SIGSTOP:when=2")
    with host.running(*slow, *CTL, "restore", f"--state-dir={home.state}") as process:
        assert awaited(lambda: host.keepalive == UNTUNED | {TIME: TUNED[TIME]})
        host.set_sysctl(TIME, THEIRS)
        assert awaited(lambda: goes_on(process.pid, process.poll() is not None))
        assert process.returncode == 0
    assert host.keepalive == UNTUNED | {TIME: THEIRS}


def test_someone_who_rewrites_a_setting_all_the_time_is_reported_a_few_times_and_loses_nothing(
    tmp_path: Path, host: Namespace
) -> None:
    """At once, then as a count at growing pauses; ours is set again at every look."""
    with Home(tmp_path, configuration()).daemon(host) as daemon:
        for value in range(4000, 4012):
            host.set_sysctl(TIME, value)
            assert awaited(lambda: host.sysctl(TIME) == TUNED[TIME])
        host.set_sysctl(TIME, 4999)
        daemon.stop()
        assert len(daemon.heard("drift")) <= 2
        assert host.keepalive == UNTUNED | {TIME: 4999}


# the disk fails


@pytest.mark.parametrize("when", ["1", "2", "3", "4", "5", "6", "1+", "2+", "3+"])
@pytest.mark.parametrize("calls", ["fsync", "?rename,?renameat,?renameat2"])
def test_however_often_the_disk_fails_nothing_is_left_changed(
    tmp_path: Path, host: Namespace, calls: str, when: str
) -> None:
    """Whether the daemon starts or not: at its end everything is as it was, and what it said is true."""
    host.keepalive = FOUND
    home = Home(tmp_path, configuration())
    with home.starting(host, through=failing(calls, f"error=EIO:when={when}")) as daemon:
        if daemon.heard("started", within=SOON):
            assert host.keepalive == TUNED
            daemon.send(signal.SIGTERM)
        status = daemon.wait()
        said = daemon.text
    assert "Traceback" not in said
    assert host.keepalive == FOUND
    assert status in (Exit.OK, Exit.IOERR)
    assert ("nothing is changed" in said) == (MESSAGE_IDS["applied"] not in said)


class FullDisk:
    """A state directory on a disk of its own, seen by the daemon alone, that can be filled."""

    def __init__(self, home: Home) -> None:
        home.state.mkdir()
        self._state = home.state
        mount = f'mount -t tmpfs -o size=64k tmpfs {home.state} && exec "$@"'
        self.through = ("unshare", "--mount", "sh", "-c", mount, "sh")

    def fill(self, daemon: Daemon) -> None:
        """No octet more."""
        with open(self._inside(daemon) / "filler", "wb", buffering=0) as file:
            for _ in itertools.repeat(None):
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    return

    def empty(self, daemon: Daemon) -> None:
        """Room again."""
        (self._inside(daemon) / "filler").unlink()

    def make_read_only(self, daemon: Daemon) -> None:
        """As a disk becomes after an error."""
        enter = ("nsenter", f"--target={daemon.pid}", "--mount")
        subprocess.run([*enter, "mount", "-o", "remount,ro", str(self._state)], check=True)

    def _inside(self, daemon: Daemon) -> Path:
        return Path(f"/proc/{daemon.pid}/root{self._state}")


def test_what_a_full_disk_refused_is_done_once_there_is_room(tmp_path: Path, host: Namespace) -> None:
    """The refusal is told once."""
    home = Home(tmp_path, configuration())
    disk = FullDisk(home)
    with home.daemon(host, through=disk.through) as daemon:
        disk.fill(daemon)
        host.set_sysctl(TIME, THEIRS)
        assert "No space left" in daemon.expect("refused", within=SOON)["MESSAGE"]
        time.sleep(4 * SCAN)
        assert host.sysctl(TIME) == THEIRS
        disk.empty(daemon)
        assert awaited(lambda: host.sysctl(TIME) == TUNED[TIME])
        daemon.stop()
        assert len(daemon.heard("refused")) == 1
    assert host.keepalive == UNTUNED | {TIME: THEIRS}


def test_a_full_disk_hinders_no_restoring(tmp_path: Path, host: Namespace) -> None:
    """What is known need not be written first."""
    home = Home(tmp_path, configuration())
    disk = FullDisk(home)
    host.keepalive = FOUND
    with home.daemon(host, through=disk.through) as daemon:
        disk.fill(daemon)
        daemon.stop()
    assert host.keepalive == FOUND


def test_a_stop_on_a_read_only_disk_restores_and_says_what_is_left_to_do(tmp_path: Path, host: Namespace) -> None:
    """The record stays, which is told; that nothing was changed would be a lie."""
    home = Home(tmp_path, configuration())
    disk = FullDisk(home)
    host.keepalive = FOUND
    with home.daemon(host, through=disk.through) as daemon:
        disk.make_read_only(daemon)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == Exit.IOERR
        assert len(daemon.heard("restored")) == len(FOUND)
        refused = daemon.expect("refused", within=SOON)["MESSAGE"]
    assert "nothing is changed" not in daemon.text
    assert "no setting is left to restore: remove the file" in refused
    assert host.keepalive == FOUND


def test_a_state_directory_that_is_removed_is_made_again(tmp_path: Path, host: Namespace) -> None:
    """With the record, which is told; and only one daemon may still use it."""
    home = Home(tmp_path, configuration())
    host.keepalive = FOUND
    with home.daemon(host) as daemon:
        shutil.rmtree(home.state)
        assert "removed" in daemon.expect("record", within=SOON)["MESSAGE"]
        assert host.run(*home.command).returncode == Exit.TEMPFAIL
        daemon.kill()
    home.restore(host)
    assert host.keepalive == FOUND


def test_a_stop_without_a_state_directory_restores(tmp_path: Path, host: Namespace) -> None:
    """The daemon knows what it found."""
    home = Home(tmp_path, configuration().replace(f'interval = "{SCAN}s"', 'interval = "1h"', 1))
    home.configure(home.file.read_text().replace('warn_before = "6s"', 'warn_before = "2h"'))
    host.keepalive = FOUND
    with home.daemon(host) as daemon:
        shutil.rmtree(home.state)
        daemon.stop()
    assert host.keepalive == FOUND


# whose record it is


def test_restore_in_another_namespace_leaves_the_record_alone(tmp_path: Path, host: Namespace) -> None:
    """It has nothing to restore, and the record is not its own."""
    home = Home(tmp_path, configuration())
    host.keepalive = FOUND
    leave_behind(home, host)
    with Namespace() as other:
        other.keepalive = TUNED
        assert "nothing to restore in this network namespace; run keepalivectl restore in the one of" in home.restore(
            other
        )
        assert other.keepalive == TUNED
    home.restore(host)
    assert host.keepalive == FOUND


def test_a_daemon_in_another_namespace_leaves_the_record_alone(tmp_path: Path, host: Namespace) -> None:
    """Each finds its own."""
    home = Home(tmp_path, configuration())
    host.keepalive = FOUND
    leave_behind(home, host)
    with Namespace() as other:
        leave_behind(home, other)
        home.restore(other)
        assert other.keepalive == UNTUNED
        with home.daemon(other) as daemon:
            daemon.stop()
    home.restore(host)
    assert host.keepalive == FOUND


def earlier_version(home: Home, host: Namespace, **changes: str) -> Path:
    """What the first format of the record says of these settings."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    identity = {"boot": boot, "netns": f"net:[{host.inode}]"} | changes
    lines = [f'  "{key}": {{\n   "found": {FOUND[key]},\n   "ours": [\n    {TUNED[key]}\n   ]\n  }}' for key in TUNED]
    names = ",\n".join(f'  "{name}": "{value}"' for name, value in identity.items())
    home.state.mkdir(exist_ok=True)
    record = home.state / "found.json"
    settings = ",\n".join(lines)
    record.write_text(f'{{\n "format": 1,\n "identity": {{\n{names}\n }},\n "settings": {{\n{settings}\n }}\n}}')
    return record


def test_an_upgrade_knows_what_the_version_before_found(tmp_path: Path, host: Namespace) -> None:
    """Its record is read, and replaced by one of the present format."""
    home = Home(tmp_path, configuration(idle=3))
    host.keepalive = TUNED
    earlier = earlier_version(home, host)
    with home.daemon(host) as daemon:
        assert host.keepalive == TUNED | {TIME: 3}
        assert not earlier.exists()
        daemon.stop()
    assert host.keepalive == FOUND


def test_restore_knows_what_the_version_before_found(tmp_path: Path, host: Namespace) -> None:
    """Without a daemon in between; that of another namespace stays."""
    home = Home(tmp_path, configuration())
    host.keepalive = TUNED
    earlier = earlier_version(home, host, netns="net:[1]")
    home.restore(host)
    assert host.keepalive == TUNED
    assert earlier.exists()
    earlier = earlier_version(home, host)
    home.restore(host)
    assert host.keepalive == FOUND
    assert not earlier.exists()


# damage


def flipped(octets: bytes, position: int) -> bytes:
    """The same, but for one bit."""
    return octets[:position] + bytes([octets[position] ^ 1]) + octets[position + 1 :]


@pytest.mark.parametrize("damage", ["cut", "one bit", "emptied"])
def test_restore_touches_nothing_where_the_record_is_damaged(tmp_path: Path, host: Namespace, damage: str) -> None:
    """To guess would be worse; one line says what to do."""
    home = Home(tmp_path, configuration())
    leave_behind(home, host)
    record = record_of(home)
    whole = record.read_bytes()
    digit = whole.index(b"7200")
    record.write_bytes({"cut": whole[:-1], "one bit": flipped(whole, digit), "emptied": b""}[damage])
    damaged = record.read_bytes()
    done = restore(home, host)
    assert done.returncode == Exit.DATAERR
    (line,) = done.stderr.splitlines()
    assert str(record) in line
    assert "remove the file" in line
    assert host.keepalive == TUNED
    assert record.read_bytes() == damaged


def test_a_daemon_keeps_a_damaged_record_aside_and_says_so_at_every_start(tmp_path: Path, host: Namespace) -> None:
    """It goes on: what stands is what was found. As long as the file is there, restore does nothing."""
    home = Home(tmp_path, configuration())
    leave_behind(home, host)
    record = record_of(home)
    damaged = flipped(record.read_bytes(), record.read_bytes().index(b"7200"))
    record.write_bytes(damaged)
    aside = record.with_name(f"{record.name}.damaged")
    for _ in range(2):
        with home.daemon(host) as daemon:
            (entry,) = daemon.heard("record")
            assert str(record) in entry["MESSAGE"]
            assert "remove the file" in entry["MESSAGE"]
            assert aside.read_bytes() == damaged
            daemon.stop()
        assert host.keepalive == TUNED
    assert restore(home, host).returncode == Exit.DATAERR
    aside.unlink()
    home.restore(host)


def test_a_second_damaged_record_does_not_replace_the_first(tmp_path: Path, host: Namespace) -> None:
    """Both are kept."""
    home = Home(tmp_path, configuration())
    for content in (b"one", b"two"):
        host.keepalive = UNTUNED
        leave_behind(home, host)
        record = record_of(home)
        record.write_bytes(content)
    with home.daemon(host) as daemon:
        assert len(daemon.heard("record")) == 2
        daemon.stop()
    assert {file.read_bytes() for file in home.state.glob("*.damaged*")} == {b"one", b"two"}


@pytest.mark.parametrize(("code", "status"), [("EIO", Exit.IOERR), ("EACCES", Exit.NOPERM)])
def test_a_record_that_cannot_be_read_is_not_taken_for_a_damaged_one(
    tmp_path: Path, host: Namespace, code: str, status: int
) -> None:
    """It may be readable tomorrow."""
    home = Home(tmp_path, configuration())
    leave_behind(home, host)
    record = record_of(home)
    blind = (*STRACE, f"--trace-path={record}", "--trace=openat", f"--inject=openat:error={code}")
    done = host.run(*blind, *CTL, "restore", f"--state-dir={home.state}")
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done
    assert record.exists()
    assert host.keepalive == TUNED


@pytest.mark.parametrize("name", ["x" * 300, "file/below", "dir/unsearchable"])
def test_a_state_directory_that_cannot_be_is_one_line(tmp_path: Path, host: Namespace, name: str) -> None:
    """Whatever the system says of its name."""
    (tmp_path / "file").touch()
    done = host.run(*CTL, "restore", f"--state-dir={tmp_path / name}")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if done.returncode else 0)


# stricter settings


STRICTER = {TIME: 60, INTERVAL: 10, PROBES: 5}
LOOSER = {TIME: 180, INTERVAL: 20, PROBES: 31}


def looser(*more: str) -> str:
    """A configuration with the default settings."""
    text = configuration(*more, idle=LOOSER[TIME])
    return text.replace('interval = "1s"', 'interval = "20s"').replace("probes = 5", "probes = 31")


def test_stricter_settings_that_stand_are_kept_and_said(tmp_path: Path, host: Namespace) -> None:
    """Somebody chose them; one entry tells what was configured, and how to have it."""
    host.keepalive = STRICTER
    with Home(tmp_path, looser()).daemon(host) as daemon:
        assert host.keepalive == STRICTER
        (entry,) = daemon.heard("stricter")
        assert f"{TIME} = 60 (configured: 180)" in entry["MESSAGE"]
        assert "keepalive.keep_stricter = false" in entry["MESSAGE"]
        (started,) = daemon.heard("started")
        assert f"system keepalive idle 3min, interval 20s, probes 31, but {TIME} = 60, " in started["MESSAGE"]
        host.keepalive = UNTUNED
        assert awaited(lambda: host.keepalive == LOOSER)
        daemon.stop()
    assert host.keepalive == UNTUNED


def test_a_configuration_may_say_that_stricter_settings_are_not_kept(tmp_path: Path, host: Namespace) -> None:
    """They are restored at the end, as all that was found."""
    host.keepalive = STRICTER
    with Home(tmp_path, looser("keep_stricter = false")).daemon(host) as daemon:
        assert host.keepalive == LOOSER
        daemon.stop()
    assert host.keepalive == STRICTER


def test_what_was_ours_before_a_reload_is_nothing_stricter_that_stands(tmp_path: Path, host: Namespace) -> None:
    """Nobody else chose it."""
    with Home(tmp_path, configuration()).daemon(host) as daemon:
        assert host.keepalive == TUNED
        daemon.reload(looser())
        assert awaited(lambda: host.keepalive == LOOSER)
        daemon.stop()
    assert host.keepalive == UNTUNED


# the window


def test_a_writer_that_never_rests_loses_no_value(tmp_path: Path, host: Namespace) -> None:
    """Each value that is replaced was recorded before: what stands at the end is what they wrote last."""
    home = Home(tmp_path, configuration())
    with home.daemon(host) as daemon:
        script = "i=3000; while :; do i=$((i + 1)); echo $i > /proc/sys/net/ipv4/tcp_keepalive_time; echo $i; done"
        with host.running("sh", "-c", script) as writer:
            time.sleep(8 * SCAN)
            os.kill(writer.pid, signal.SIGSTOP)
        assert awaited(lambda: host.sysctl(TIME) == TUNED[TIME])
        daemon.stop()
        assert host.sysctl(TIME) > 3000
