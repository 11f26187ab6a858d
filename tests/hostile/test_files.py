"""Who fills a disk, or owns the state directory, ends no arming and has root write nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.model.errors import Exit
from tests.support.loopback import Host, forgetful, near_end
from tests.support.patience import SOON
from tests.support.processes import CTL, DAEMON, ENABLE, next_line, tell
from tests.support.rig import DIE_WITH_US
from tests.support.unprivileged import NOBODY, as_nobody, reachable_directory

SMALL_DISK = 'mount -t tmpfs -o size=64k x "$0" && mkdir -m 755 "$0/state" && mkdir -m 1777 "$0/public" && echo && cat'


def test_a_full_disk_ends_no_arming(host: Host) -> None:
    """A socket is recorded before it is armed. Once there is room again, arming goes on by itself."""
    state = host.directory / "state"
    state.mkdir()
    options = f"--state-dir={state}/state"
    with host.namespace.running("unshare", "--mount", "sh", "-c", SMALL_DISK, str(state)) as disk:
        assert next_line(disk) == "\n"
        there = ("nsenter", f"--target={disk.pid}", "--mount", *DIE_WITH_US)
        with (
            host.daemon(forgetful(ENABLE), options, through=there) as daemon,
            host.attacked("full_disk", f"{state}/public", through=there) as attacker,
        ):
            assert next_line(attacker) == "full\n"
            sock = host.connection()
            refused = daemon.expect("refused", within=SOON)
            assert "No space left on device" in refused["MESSAGE"]
            tell(attacker)
            assert next_line(attacker) == "empty\n"
            daemon.expect("armed", within=SOON, **near_end(sock))
            daemon.stop()


PRECIOUS = b"precious data of root\n"


@pytest.fixture
def state() -> Iterator[Path]:
    """The state directory of a service user who was taken over; beside it is a file of root's."""
    with reachable_directory() as directory:
        (directory / "precious").write_bytes(PRECIOUS)
        path = directory / "state"
        path.mkdir()
        os.chown(path, NOBODY, NOBODY)
        yield path


def plant(kind: str, state: Path) -> None:
    """Put this in place of every file that root's programs read or write there."""
    precious = state.parent / "precious"
    with as_nobody():
        for name in ("armed", "armed.new", "found.json", "found.json.new", "lock"):
            if kind == "link":
                (state / name).symlink_to(precious)
            else:
                os.mkfifo(state / name)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_the_service_user_has_root_neither_wait_nor_write_elsewhere(host: Host, state: Path, kind: str) -> None:
    """Whatever root types: each command ends, and says what is wrong in one line."""
    sock = host.connection()
    plant(kind, state)
    (host.directory / "config.toml").write_text(forgetful(ENABLE, apply=True), encoding="utf-8")
    where = (f"--state-dir={state}", f"--config={host.directory}/config.toml")
    peer = "{}:{}".format(*sock.getpeername())
    for command in (
        (*CTL, "arm", peer, *where),
        (*CTL, "disarm", where[0]),
        (*CTL, "restore", where[0]),
        (*DAEMON, *where, "--once"),
    ):
        done = host.namespace.run(*command)
        assert done.returncode in {Exit.OK, Exit.IOERR}, done
        assert "Traceback" not in done.stderr
    assert (state.parent / "precious").read_bytes() == PRECIOUS
    assert (state.parent / "precious").stat().st_uid == 0
