"""OpenSSH, with nothing of this machine's configuration, keys or known hosts."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET
from subprocess import Popen

from tests.programs.stage import PLAIN, USER, serving
from tests.support.rig import SERVER, Rig

SSHD = "/usr/sbin/sshd"
PORT = 2222


class OpenSSH:
    """Keys and configuration of a server that runs as USER, in a directory of USER's, and of its client."""

    def __init__(self, directory: Path) -> None:
        self._sshd_config = directory / "sshd_config"
        self._identity = directory / "identity"
        host_key = directory / "host_key"
        for key in (host_key, self._identity):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        shutil.chown(host_key, USER)
        self._sshd_config.write_text(
            f"""
            ListenAddress {SERVER[AF_INET]}:{PORT}
            HostKey {host_key}
            PidFile none
            AuthorizedKeysFile {self._identity}.pub
            StrictModes no
            UsePAM no
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            ClientAliveInterval 0
            TCPKeepAlive yes
            """,
            encoding="ascii",
        )

    @contextlib.contextmanager
    def served(self, rig: Rig, *settings: str) -> Iterator[None]:
        """Its server, at the rig's, with more settings."""
        options = [f"-o{setting}" for setting in settings]
        with serving(rig.server, SSHD, "-D", "-e", "-f", str(self._sshd_config), *options, ready="Server listening"):
            yield

    @contextlib.contextmanager
    def session(self, rig: Rig, command: str) -> Iterator[Popen[str]]:
        """The client, with a command at the server, that asks for no keepalive of either kind."""
        options = {
            "IdentityFile": self._identity,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "TCPKeepAlive": "no",
            "ServerAliveInterval": "0",
        }
        target = (f"-p{PORT}", f"{USER}@{SERVER[AF_INET]}", command)
        said = (f"-o{key}={value}" for key, value in options.items())
        with rig.client.running(*PLAIN, "ssh", "-F", "none", *said, *target) as process:
            yield process
