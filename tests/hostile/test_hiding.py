"""Whoever tries to make others' connections disappear hides nothing but his own, and not silently."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from keepaliveD.cli.asking.asking import ask
from keepaliveD.model.sockets import OWN
from tests.support.loopback import FORGOTTEN, LASTING, Host, by, everywhere, forgetful, near_end, settings
from tests.support.patience import SOON, wait_for
from tests.support.processes import CTL, ENABLE, Daemon, next_line
from tests.support.rig import Namespace
from tests.support.versions import WALK, since

CONNECTIONS = 40
FEW = 4  # connections
CROWD = 1_100  # connections; both ends are more than are read of a bucket at once
PLACES = 4  # network namespaces: of more, one entry tells about several
HOPPERS = 4  # processes
MORE_THAN_ARE_EXPLAINED = 300  # connections


def test_sockets_with_more_keys_than_fit_a_message_hide_no_others(host: Host) -> None:
    """The kernel shows the keys to CAP_NET_ADMIN, and ends a dump where they do not fit, as if it were complete."""
    first = [host.connection() for _ in range(CONNECTIONS)]
    with host.attacked("many_keys", FORGOTTEN, str(FEW)) as attacker:
        assert next_line(attacker) == "keys\n"
        later = [host.connection() for _ in range(CONNECTIONS)]
        with host.daemon(forgetful(ENABLE)) as daemon:
            wait_for(lambda: armed(daemon) >= len(first) + len(later))  # a busy machine may need more than one scan
            assert armed(daemon) >= len(first) + len(later)
            daemon.stop()


def armed(daemon: Daemon) -> int:
    """How many sockets of ours it has armed."""
    return sum(entry.get("KEEPALIVE_COUNT", 1) for entry in daemon.heard("armed", KEEPALIVE_UID=os.getuid()))


def test_where_keys_hide_others_all_the_same_that_is_said_once(host: Host) -> None:
    """A sandbox that forbids capset(2) keeps us from hiding the keys; the kernel's count tells of the others."""
    through = (sys.executable, "-m", "tests.support.without_capset")
    control = host.directory / "control"
    with host.attacked("many_keys", FORGOTTEN, str(FEW)) as attacker:
        assert next_line(attacker) == "keys\n"
        for _ in range(CONNECTIONS):
            host.connection()
        runtime = ("env", f"RUNTIME_DIRECTORY={host.directory}")
        with host.daemon(forgetful(ENABLE), through=(*runtime, *through)) as daemon:
            told = daemon.expect("unwatched", within=SOON)
            assert "fewer sockets than it counts" in told["MESSAGE"]
            for _ in range(FEW):
                ask(control, "Scan", patience=SOON)
            assert daemon.heard("unwatched") == [told]
            assert ask(control, "Status", patience=SOON)["unwatched"]["incomplete"] == [OWN]
            daemon.stop()


@since(WALK)
def test_a_crowd_in_the_bucket_of_somebodys_connection_does_not_hide_it(tmp_path: Path) -> None:
    """Here the kernel's table has only one; in a larger one anybody finds it out by the order of /proc/net/tcp."""
    with Namespace() as maker:
        maker.set_sysctl("net.ipv4.tcp_child_ehash_entries", 1)
        with Host(tmp_path, maker) as host:
            sock = host.connection()
            with host.attacked("crowd", LASTING, str(CROWD)) as attacker:
                assert next_line(attacker) == "connected\n"
                with host.daemon(by("bpf", forgetful(ENABLE))) as daemon:
                    daemon.expect("armed", within=SOON, **near_end(sock))
                    assert "bpf engine" in daemon.expect("started")["MESSAGE"]
                    assert daemon.heard("unwatched") == []
                    daemon.stop()


def test_a_process_that_hops_between_namespaces_neither_hides_nor_mislabels_its_neighbours(host: Host) -> None:
    """It is the first process by which a namespace is found, and may be in another one by the time it is entered."""
    with host.attacked("hoppers", FORGOTTEN, str(HOPPERS), str(PLACES)) as attacker:
        places = [tuple(map(int, next_line(attacker).split())) for _ in range(PLACES)]
        with host.daemon(everywhere(forgetful(ENABLE))) as daemon:
            for namespace, local, remote in places:
                ports = {"KEEPALIVE_LOCAL_PORT": local, "KEEPALIVE_REMOTE_PORT": remote}
                assert daemon.expect("armed", within=SOON, **ports)["KEEPALIVE_NETNS"] == namespace
            daemon.stop()


def test_many_connections_with_the_same_address_keep_no_others_from_being_explained_and_armed(host: Host) -> None:
    """In a network namespace of his own anybody may have any address."""
    asking = ("env", f"RUNTIME_DIRECTORY={host.directory}")
    words = (*asking, *CTL, "why", FORGOTTEN, f"--state-dir={host.directory}/state")
    with host.attacked("same_address", FORGOTTEN, str(MORE_THAN_ARE_EXPLAINED)) as attacker:
        assert next_line(attacker) == "connected\n"
        sock = host.connection()
        with host.daemon(everywhere(forgetful(timeout=300.0)), through=asking) as daemon:
            ask(host.directory / "control", "Scan", patience=SOON)
            told = json.loads(host.namespace.run(*words, "--json").stdout)
            ports = {its["connection"]["local"]["port"] for its in told["connections"]}
            assert (told["more"] > 0, sock.getsockname()[1] in ports) == (True, True)
            fixed = host.namespace.run(*words, "--fix", "--yes")
            assert settings(sock).on, fixed
            assert fixed.returncode == 75, fixed
            # the second of a machine that is still arming those that are explained
            said = "connections are not explained above, and may be at risk", "connections that are still at risk"
            assert any(text in fixed.stderr for text in said), fixed
            daemon.stop()
