"""keepalivectl engine: how sockets are read here, and what an earlier daemon has left in the kernel."""

from __future__ import annotations

import argparse
from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files, whose_view
from keepaliveD.config import load
from keepaliveD.model.errors import NotPermitted
from keepaliveD.model.rules import Watching
from keepaliveD.platforms import detect

BESIDE_OTHERS = "; until it is removed, the root cgroup takes no sock_ops program without BPF_F_ALLOW_MULTI"


def add_engine(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl engine`."""
    arguments.add_config(command)
    arguments.add_state(command)
    arguments.add_platform(command)
    command.set_defaults(command=print_engine)


def print_engine(options: argparse.Namespace, root: Path) -> None:
    """Print which engine a daemon would use here, and what an earlier one has left in the kernel."""
    config = load(its_files.its_file(options, root))
    platform = detect(options.platform, root)
    session = platform.open(Watching(config.engine, all_namespaces=False))
    try:
        print(session.watcher.engine_description)
    finally:
        session.close()
    try:
        pin = platform.at_connect.pinned()
    except NotPermitted as refusal:
        print(f"pinned: unknown: {refusal}")
    else:
        print(f"pinned: {pin} arms new connections{BESIDE_OTHERS}" if pin else "pinned: nothing")
    whose_view.note_running_daemon(
        options.state_dir, root, "this is what keepalivectl could use with its own privileges"
    )
