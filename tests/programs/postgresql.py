"""PostgreSQL, with a cluster of its own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET
from subprocess import Popen

from tests.programs.stage import AS_USER, PLAIN, USER, serving
from tests.support.rig import CLIENT_NETWORKS, SERVER, Rig

PORT = 5432
ON_A_SMALL_DISK = (  # moves a directory to one, and runs what follows
    *("unshare", "--mount", "sh", "-ec"),
    'mv "$1" "$1.large"; mkdir "$1"; mount -t tmpfs -o size=16m tmpfs "$1"; cp -a "$1.large/." "$1"; shift; exec "$@"',
    "sh",
)


def binaries() -> Path | None:
    """Those of the newest version that is installed, as Debian installs it."""
    versions = {float(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")}
    return versions[max(versions)] if versions else None


class PostgreSQL:
    """A cluster as initdb makes it, in a directory of USER's."""

    def __init__(self, directory: Path) -> None:
        self._cluster = directory / "cluster"
        self._copies = 0
        self._run("initdb", "--auth=trust", "--no-locale", "--no-sync", "--wal-segsize=1", f"--pgdata={self._cluster}")
        with (self._cluster / "pg_hba.conf").open("a", encoding="ascii") as rules:
            rules.write(f"host all all {CLIENT_NETWORKS[0]} trust\n")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([*AS_USER, _binary(program), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def served(self, rig: Rig, *, little_room: bool = False, **more: str) -> Iterator[Popen[str]]:
        """A server of a copy of the cluster, at the rig's, with more settings; it logs how long each statement took.

        With `little_room` the disk of its write-ahead log is full after some megabytes.
        """
        self._copies += 1
        copy = self._cluster.with_name(f"copy{self._copies}")
        subprocess.run(["cp", "-a", str(self._cluster), str(copy)], check=True)
        settings = {
            "listen_addresses": SERVER[AF_INET],
            "port": PORT,
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # not in /dev/shm, where it would outlive a killed server
            "fsync": "off",
            "log_min_duration_statement": 0,
            **more,
        }
        options = (f"--{key}={value}" for key, value in settings.items())
        through = (*ON_A_SMALL_DISK, str(copy / "pg_wal")) if little_room else ()
        command = _binary("postgres"), "-D", str(copy), *options
        with serving(rig.server, *command, ready="ready to accept", through=through) as process:
            yield process

    @contextlib.contextmanager
    def query(self, rig: Rig, *commands: str, port: int = PORT) -> Iterator[Popen[str]]:
        """The client, with commands of psql or statements."""
        target = f"host={SERVER[AF_INET]} port={port} user={USER} dbname=postgres sslmode=disable gssencmode=disable"
        with rig.client.running(
            *PLAIN, _binary("psql"), "-XAt", *(f"--command={each}" for each in commands), target
        ) as process:
            yield process


def _binary(program: str) -> str:
    directory = binaries()
    assert directory
    return str(directory / program)
