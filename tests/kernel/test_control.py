"""The control socket of a real daemon: it tells what is so, and clients that misbehave delay no scan."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.cli.asking.asking import ask, every, listen
from keepaliveD.daemon.control.varlink import MOST_WAITING
from keepaliveD.model.errors import KernelError, NotPermitted
from tests.support.patience import SOON, TICK, pause, unserved
from tests.support.processes import CTL, SCAN, TUNED, Daemon, Home, Program, configuration, program
from tests.support.rig import TIME, UNTUNED, Rig
from tests.support.unprivileged import NOBODY, as_a_stranger, reachable_directory

TIMEOUT = 60  # seconds without a packet after which the firewall forgets
STATUS = b'{"method":"internal.tcp-keepalived.Status"}\0'
LIST = b'{"method":"internal.tcp-keepalived.ListConnections","more":true}\0'
EXPLAIN = b'{"method":"internal.tcp-keepalived.Explain","parameters":{"cookies":[1]}}\0'


BAD = (STATUS * 50, STATUS[:20], b"\xff" * 4000 + b"\0", b"[" * 70_000, LIST * 50, EXPLAIN * 50)


@contextlib.contextmanager
def daemon(rig: Rig, directory: Path) -> Iterator[tuple[Daemon, Path]]:
    """A daemon with a runtime directory, and its control socket."""
    home = Home(directory, configuration(idle=20, timeout=TIMEOUT))
    with home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={directory}")) as running:
        yield running, directory / "control"


def until(path: Path, wanted: Any) -> dict[str, Any]:
    """Return the first status that is as wanted."""
    end = time.monotonic() + SOON
    while not wanted(status := ask(path, "Status", patience=SOON)):
        assert time.monotonic() < end, status
        time.sleep(SCAN / 2)
    return status


def test_the_status_is_what_stands_in_the_kernel(rig: Rig, tmp_path: Path) -> None:
    """Before, after, and when somebody else writes a setting."""
    with daemon(rig, tmp_path) as (running, path), program(rig):
        status = until(path, lambda status: status["connections"]["bare"] == 1)
        assert status["pid"] == running.pid
        time_setting = {one["name"]: one for one in status["settings"]}[TIME]
        assert time_setting == {
            "name": TIME,
            "wanted": 20,
            "stands": rig.client.sysctl(TIME),
            "before": UNTUNED[TIME],
            "note": "",
        }
        assert [one["stands"] for one in status["settings"] if one["name"] != TIME] == [
            TUNED[name] for name in sorted(TUNED) if name != TIME
        ]
        assert status["problems"] == []
        (at_risk,) = status["at_risk"]
        assert (at_risk["verdict"], at_risk["count"]) == ("bare", 1)
        assert 0 < at_risk["left"] <= TIMEOUT
        options = (f"--config={tmp_path}/config.toml", f"--state-dir={tmp_path}/state")
        said = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *CTL, "status", *options).stdout
        assert f"(process {running.pid})" in said
        assert f"{TIME}    20; 7200 stood before" in said
        assert "1: 1 bare" in said
        running.stop()
    assert not path.exists()


def test_whoever_asks_while_it_starts_is_answered_once_it_has(rig: Rig, tmp_path: Path) -> None:
    """It reads its configuration meanwhile."""
    home = Home(tmp_path, configuration(idle=20, timeout=TIMEOUT))
    with (
        home.starting(rig.client, through=("env", f"RUNTIME_DIRECTORY={tmp_path}")) as starting,
        socket.socket(socket.AF_UNIX) as early,
    ):
        early.settimeout(SOON)
        end = time.monotonic() + SOON
        while early.connect_ex(str(tmp_path / "control")):
            assert time.monotonic() < end
            time.sleep(0.001)
        early.send(STATUS)
        assert early.recv(1 << 20).startswith(b'{"parameters":{"version":')
        starting.expect("started")
        starting.stop()


ROOT = Path(__file__).parents[2]


def test_a_daemon_of_script_run_is_asked_and_undone_as_one_of_no_unit(rig: Rig, tmp_path: Path) -> None:
    """In a tree of its own, which is set up already, with a /run of its own."""
    (tmp_path / "script").mkdir()
    shutil.copy(ROOT / "script/run", tmp_path / "script/run")
    (tmp_path / "script/setup").symlink_to("/bin/true")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    home = Home(tmp_path / "etc", configuration(idle=20, timeout=TIMEOUT))
    (tmp_path / "etc/tcp-keepalived").mkdir()
    shutil.move(home.file, tmp_path / "etc/tcp-keepalived/config.toml")
    run = f'mount -t tmpfs none /run && exec {tmp_path}/script/run --log-format=json --state-dir={home.state} "$@"'
    with rig.client.running("unshare", "--mount", "sh", "-c", run) as process:
        daemon = Daemon(process, home)
        daemon.expect("started")
        inside = ("nsenter", f"--target={daemon.pid}", "--mount", *CTL)
        said = rig.client.run(*inside, "status", f"--state-dir={home.state}")
        assert f"(process {daemon.pid})" in said.stdout, said
        assert f"{TIME}    20; 7200 stood before" in said.stdout
        assert f"undo         kill {daemon.pid}" in said.stdout
        run_directory = Path(f"/proc/{daemon.pid}/root/run/tcp-keepalived")
        assert run_directory.stat().st_mode & 0o777 == 0o755
        handle = os.open(run_directory.parent, os.O_RDONLY)
        daemon.stop(signal.SIGINT)
        assert os.listdir(handle) == []
        os.close(handle)
    assert rig.client.sysctl(TIME) == UNTUNED[TIME]


def test_whoever_monitors_hears_what_the_log_gets(rig: Rig, tmp_path: Path) -> None:
    with daemon(rig, tmp_path) as (running, path):
        heard: list[str] = []
        listening = threading.Thread(target=lambda: heard.extend(each["event"] for each in listen(path, "Monitor")))
        listening.start()
        deadline = time.monotonic() + SOON
        while "reloaded" not in heard:  # whoever asks so late that it is over hears of the next one
            assert time.monotonic() < deadline
            running.send(signal.SIGHUP)
            time.sleep(SCAN)
        running.stop()
        listening.join(SOON)


def listed(path: Path, **filters: object) -> list[dict[str, Any]]:
    """All connections that the daemon lists."""
    return [one for reply in every(path, "ListConnections", filters, SOON) for one in reply["connections"]]


def its_own(path: Path, its: Program) -> dict[str, Any]:
    """The connection of a program, once a scan has found it."""
    until(path, lambda status: status["connections"]["total"] >= 1)
    (one,) = [one for one in listed(path) if one["local"]["port"] == its.endpoints["KEEPALIVE_LOCAL_PORT"]]
    return one


def call(path: Path, method: str, **parameters: object) -> dict[str, Any]:
    """Return the only answer."""
    (answer,) = every(path, method, parameters, patience=SOON)
    return answer


def stands(rig: Rig, its: Program) -> str:
    """What ss says of the keepalive of a program's connection."""
    port = its.endpoints["KEEPALIVE_LOCAL_PORT"]
    return rig.client.run("ss", "-tnoH", "sport", f"= :{port}").stdout


def test_a_connection_is_listed_explained_armed_and_disarmed_by_its_cookie(rig: Rig, tmp_path: Path) -> None:
    """Each of it held against what another tool says of the same socket; the log has who asked."""
    with daemon(rig, tmp_path) as (running, path), program(rig) as its:
        one = its_own(path, its)
        assert (one["verdict"], one["path"], one["keepalive"]) == ("bare", "rig", "off")
        assert [each["cookie"] for each in listed(path, verdicts=["bare"], ports=[one["local"]["port"]])] == [
            one["cookie"]
        ]
        assert listed(path, verdicts=["safe"]) == []
        (namespace,) = next(every(path, "ListNamespaces", {}, SOON))["namespaces"]
        assert (namespace["inode"], namespace["bare"]) == (one["netns"], 1)

        why = call(path, "Explain", cookies=[one["cookie"]])["explained"][0]
        assert (why["stands"]["on"], why["rule"], why["armed"]) == (False, "keepalive.arm", None)
        assert why["connection"]["owner"]["pid"] == its.pid
        assert {"key": "action", "value": "enable"} in why["remedy"]

        assert "keepalive" not in stands(rig, its)
        armed = call(path, "Arm", cookie=one["cookie"], idle=10)
        assert (armed["result"], armed["after"]["on"], armed["after"]["idle"]) == ("armed", True, 10)
        assert "timer:(keepalive," in stands(rig, its)
        entry = running.expect("armed", KEEPALIVE_RULE="hand", KEEPALIVE_BY_UID=0, KEEPALIVE_BY_PID=os.getpid())
        assert entry["MESSAGE"] == armed["message"]
        why = call(path, "Explain", cookies=[one["cookie"]])["explained"][0]
        assert why["stands"] == why["armed"]["after"] == armed["after"]

        disarmed = call(path, "Disarm", cookie=one["cookie"])
        assert (disarmed["result"], disarmed["after"]["on"]) == ("disarmed", False)
        assert "keepalive" not in stands(rig, its)
        running.expect("disarmed", KEEPALIVE_BY_UID=0)
        assert call(path, "Explain", cookies=[one["cookie"]])["explained"][0]["left_alone"]
        with pytest.raises(KernelError, match="NoSuchConnection"):
            call(path, "Arm", cookie=1)
        running.stop()


def test_a_reload_is_answered_when_it_is_done_or_with_what_is_wrong(rig: Rig, tmp_path: Path) -> None:
    with daemon(rig, tmp_path) as (running, path):
        (tmp_path / "config.toml").write_text(configuration(idle=21, timeout=TIMEOUT))
        assert call(path, "Reload") == {}
        assert rig.client.sysctl(TIME) == 21
        (tmp_path / "config.toml").write_text("[keepalive]\nidel = 1\n")
        with pytest.raises(KernelError, match=r"the daemon has not done it: .*keepalive\.idel"):
            call(path, "Reload")
        assert rig.client.sysctl(TIME) == 21
        running.stop()


def test_an_order_to_restore_a_setting_that_does_not_exist_is_refused_and_names_it(rig: Rig, tmp_path: Path) -> None:
    """Nothing is restored then, and the daemon goes on to care for the settings that were named with it."""
    with daemon(rig, tmp_path) as (running, path):
        was = rig.client.sysctl(TIME)
        with pytest.raises(
            KernelError, match=r"net\.ipv4\.tcp_keepalive_tyme: not a setting .*net\.ipv4\.tcp_keepalive_time"
        ):
            call(path, "Restore", settings=[TIME, "net.ipv4.tcp_keepalive_tyme"])
        assert rig.client.sysctl(TIME) == was
        running.stop()


def test_what_keepalivectl_lists_is_what_the_daemon_says(rig: Rig, tmp_path: Path) -> None:
    """With the process, which the daemon does not know."""
    with daemon(rig, tmp_path) as (running, path), program(rig) as its:
        one = its_own(path, its)
        said = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *CTL, "sockets", "--json")
        found = {each["cookie"]: each for each in json.loads(said.stdout)["connections"]}[one["cookie"]]
        assert (found["verdict"], found["owner"]["pid"]) == (one["verdict"], its.pid)
        whose = f"note: these are the connections as of the last scan by tcp-keepalived (process {running.pid}), "
        assert whose in said.stderr
        running.stop()
    said = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *CTL, "sockets", "--json")
    assert "note: no tcp-keepalived runs here; this list is a single scan by keepalivectl" in said.stderr


def test_the_group_may_ask_and_give_no_order(rig: Rig) -> None:
    with reachable_directory() as directory, daemon(rig, directory) as (running, path), program(rig) as its:
        cookie = its_own(path, its)["cookie"]
        os.chown(path, -1, NOBODY)
        with as_a_stranger():
            assert ask(path, "Status", patience=SOON)["pid"] == running.pid
            assert call(path, "Explain", cookies=[cookie])["explained"][0]["connection"]["cookie"] == cookie
            for method in ("Arm", "Disarm", "Measuring", "Reload", "Scan", "Record", "Restore"):
                with pytest.raises(NotPermitted, match="only root may"):
                    call(path, method, **({"cookie": cookie} if method in ("Arm", "Disarm") else {}))
        assert not running.heard("armed")
        running.stop()


def test_clients_that_misbehave_delay_no_scan(rig: Rig, tmp_path: Path) -> None:
    """Those that flood, those that never read, those that send half a message, and those that send rubbish."""
    with daemon(rig, tmp_path) as (running, path), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(40)]
        for client in clients:
            client.connect(str(path))
            client.setblocking(False)
        memory = resident(running.pid)
        ages, before, overslept = [], unserved(running.pid), 0.0
        after = dict(before)
        end = time.monotonic() + 10 * SCAN
        while time.monotonic() < end:
            for number, client in enumerate(clients):
                with contextlib.suppress(OSError):
                    client.send(BAD[number % len(BAD)])
            ages.append(ask(path, "Status", patience=SOON)["scan"]["ago"])
            after |= unserved(running.pid)
            overslept += pause(TICK)
        hindered = max(overslept, sum(after.values()) - sum(before.values()))
        assert max(ages) - hindered < 20 * SCAN, "on a busy machine; else a fifth of that"
        assert resident(running.pid) < memory + len(clients) * MOST_WAITING // 1024  # what is kept for each is bounded
        running.stop()


def resident(pid: int) -> int:
    """KiB of memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0])


def test_everyone_may_ask_where_the_configuration_says_so_and_give_no_order(rig: Rig) -> None:
    """From a reload on, and until one that says something else."""
    everyone = configuration(idle=20, timeout=60).replace("[watch]", '[watch]\nreaders = "everyone"')
    with reachable_directory() as directory, daemon(rig, directory) as (running, path):
        running.reload(everyone)
        running.expect("reloaded")
        with socket.socket(socket.AF_UNIX) as staying:
            staying.settimeout(SOON)
            with as_a_stranger():
                assert ask(path, "Status", patience=SOON)["pid"] == running.pid
                with pytest.raises(NotPermitted, match="only root may"):
                    ask(path, "Scan")
                staying.connect(str(path))
            running.reload(configuration(idle=20, timeout=60))
            assert staying.recv(1) == b""  # let go
        with as_a_stranger(), pytest.raises(NotPermitted, match="readers"):
            ask(path, "Status")
        running.stop()


def test_only_the_daemons_user_and_group_may_ask(rig: Rig) -> None:
    with reachable_directory() as directory, daemon(rig, directory) as (running, path):
        assert path.stat().st_mode & 0o777 == 0o660
        with as_a_stranger(), pytest.raises(NotPermitted, match="run as root, or as a member of the group tcp-keep"):
            ask(path, "Status")
        running.stop()
