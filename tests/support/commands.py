"""The commands of keepalivectl, in the order in which its help and its manual page have them."""

COMMANDS = (
    "status",
    "monitor",
    "sockets",
    "watch",
    "metrics",
    "why",
    "paths",
    "presets",
    "check",
    "engine",
    "arm",
    "disarm",
    "undo",
    "measure",
    "log",
    "deaths",
    "restore",
)
