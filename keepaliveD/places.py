"""Where things are by default."""

from __future__ import annotations

from pathlib import Path

DEFAULT_FILE = Path("/etc/tcp-keepalived/config.toml")
DROP_INS = "config.d"  # beside the file
SUFFIX = ".toml"  # of the files in it that are read
UNIT = "tcp-keepalived.service"
STATE_DIRECTORY = "/var/lib/tcp-keepalived"
RUNTIME_DIRECTORY = "run/tcp-keepalived"  # below the root
CONTROL = "control"  # the control socket, in the runtime directory
INTERFACE = "internal.tcp-keepalived"  # of the control socket, as Varlink names it
MEASURES = "keepalivectl"  # the name of a process that measures a path
HANDBOOK = "/usr/share/doc/tcp-keepalived/docs"
LOCK = "lock"  # in the state directory
