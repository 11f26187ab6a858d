"""The service under real systemd, as the package installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.log.entries import ERROR, MESSAGE_IDS
from keepaliveD.model.errors import Exit
from tests.handbook.documents import journal_queries
from tests.install.conftest import install
from tests.install.machine import KEEPALIVE, UNIT, UNTUNED, Machine
from tests.install.packages import Package

CROWD = Path(__file__).with_name("crowd.py")
CROWD_UNIT = "crowd.service"
ADDRESS = "10.77.0.1"
OURS = "/etc/tcp-keepalived/config.d/test.toml"
QUICK = """
[watch]
interval = "0.2s"
warn_before = "6s"
ignore = []
[[path]]
name = "here"
networks = ["10.77.0.0/16"]
timeout = "12s"
"""
ROOMY = QUICK.replace("12s", "1h")  # for what a busy machine is to do before the path has forgotten
CAPABILITIES = {  # include/uapi/linux/capability.h
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
MOST_EXPOSED = 2.3  # systemd-analyze security, with the default features


@pytest.fixture(scope="module")
def installed(machine: Machine, package: Package) -> Machine:
    """A machine with the package, an address of its own, and programs to run."""
    machine.run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
    machine.run("ip", "address", "add", f"{ADDRESS}/24", "dev", "here")
    for end in ("here", "there"):
        machine.run("ip", "link", "set", end, "up")
    shutil.copy(CROWD, machine.path("/usr/local/lib/crowd.py"))
    install(machine, package)
    machine.main_process()
    return machine


@pytest.fixture
def service(installed: Machine) -> Iterator[Machine]:
    """The service as it is after installation; what a test has changed is put right behind it."""
    running, drop_ins = installed.show("MainPID"), installed.path(f"/run/systemd/system/{UNIT}.d")
    yield installed
    installed.run("systemctl", "stop", CROWD_UNIT, check=False)
    if not (installed.path(OURS).exists() or drop_ins.exists() or installed.show("MainPID") != running):
        return
    installed.path(OURS).unlink(missing_ok=True)
    shutil.rmtree(drop_ins, ignore_errors=True)
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "reset-failed", UNIT, check=False)
    installed.systemctl("restart")
    installed.main_process()


def configure(service: Machine, text: str) -> None:
    """Add this to the shipped configuration, and put it in force."""
    service.write(OURS, text)
    service.systemctl("reload")


def crowd(service: Machine, *arguments: str, options: tuple[str, ...] = ()) -> int:
    """Start a unit of another user that holds quiet connections; its process id."""
    after = service.now()
    service.run(
        *("systemd-run", "--quiet", f"--unit={CROWD_UNIT}", "--property=User=daemon", "--property=LimitNOFILE=20000"),
        *options,
        *("python3", "/usr/local/lib/crowd.py", *arguments),
    )
    service.until(lambda: "connected" in service.journal(after, CROWD_UNIT))
    return int(service.run("systemctl", "show", "--value", "--property=MainPID", CROWD_UNIT).stdout)


def inode(service: Machine, namespace: str) -> str:
    """Of a network namespace with a name."""
    return str(os.stat(service.path(f"/run/netns/{namespace}")).st_ino)


def test_it_runs_as_its_own_user_with_these_capabilities_and_no_other(service: Machine) -> None:
    """Neither root's id nor root's powers."""
    status = service.path(f"/proc/{service.main_process()}/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapPrm"], 16) == sum(1 << number for number in CAPABILITIES.values())
    assert fields["CapBnd"] == fields["CapPrm"]
    assert int(fields["CapEff"], 16) == 1 << CAPABILITIES["CAP_NET_ADMIN"] | 1 << CAPABILITIES["CAP_DAC_READ_SEARCH"]
    assert fields["NoNewPrivs"] == "1"


def test_entries_carry_their_fields(service: Machine) -> None:
    """What was applied is in the journal, as data."""
    service.systemctl("stop")
    after = service.now()
    service.systemctl("start")
    for key, value in KEEPALIVE.items():
        entry = service.expect("applied", after, KEEPALIVE_SYSCTL=key)
        assert entry["KEEPALIVE_FOUND"] == str(UNTUNED[key])
        assert entry["KEEPALIVE_VALUE"] == str(value)
        assert entry["KEEPALIVE_BECAUSE"]
        assert entry["MESSAGE"] == f"{key}: found {UNTUNED[key]}, set to {value}"
        assert entry["SYSLOG_IDENTIFIER"] == "tcp-keepalived"
        assert entry["PRIORITY"] == "5"
        assert entry["_SYSTEMD_UNIT"] == UNIT
        assert entry["_TRANSPORT"] == "journal"


def test_the_journal_explains_every_entry(service: Machine) -> None:
    """`journalctl -x` finds the catalog that the package installs."""
    known = service.run("journalctl", "--list-catalog").stdout
    for event, message_id in MESSAGE_IDS.items():
        assert message_id in known, event
    explained = service.run("journalctl", "--quiet", "--no-pager", "-x", f"MESSAGE_ID={MESSAGE_IDS['applied']}").stdout
    assert "░░ Subject:" in explained
    assert "░░ Documentation: " in explained or "keepalivectl" in explained
    assert re.search(r"@\w+@", explained) is None


def test_the_manual_pages_are_there(service: Machine) -> None:
    """Each is found by its name, and man has nothing to complain of."""
    for section, page in ((8, "tcp-keepalived"), (1, "keepalivectl"), (5, "tcp-keepalived.toml")):
        shown = service.run("man", "--warnings", str(section), page)
        assert page.upper() in shown.stdout.upper()
        assert shown.stderr == ""


def test_systemd_has_nothing_to_say_against_the_unit(service: Machine) -> None:
    """`systemd-analyze verify` is silent."""
    verified = service.run("systemd-analyze", "verify", UNIT)
    assert verified.stdout + verified.stderr == ""


def exposure(service: Machine, unit: str = UNIT) -> float:
    """What `systemd-analyze security` says of the unit."""
    said = service.run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout
    return float(said.split("level for")[1].split(":")[1].split()[0])


def test_little_is_exposed(service: Machine, suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the unit alone, and less by each drop-in that is shipped beside it and does not give anything."""
    figures = {"the unit": exposure(service)}
    for drop_in in drop_ins(service):
        service.drop_in(drop_in.read_text(encoding="utf-8"))
        figures[drop_in.name] = exposure(service)
    with capsys.disabled():
        print(f"\nexposure on {suite}: {', '.join(f'{name} {figure}' for name, figure in figures.items())}")
    assert figures.pop("bpf.conf") <= MOST_EXPOSED + 0.5
    assert figures.pop("packets.conf") <= MOST_EXPOSED + 1.0
    assert len(figures) == 3
    assert figures["the unit"] <= MOST_EXPOSED
    assert max(figures.values()) == figures["the unit"]


SCRAPE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9272/metrics', timeout=50).read().decode())"


def test_metrics_are_served_once_their_socket_is_started_by_a_process_without_privileges(service: Machine) -> None:
    """It has no capability, a user and a network of its own, and what the daemon says."""
    socket, exporter = "tcp-keepalived-metrics.socket", "tcp-keepalived-metrics.service"
    assert service.says("disabled", "systemctl", "is-enabled", socket)
    assert service.says("inactive", "systemctl", "is-active", socket)
    verified = service.run("systemd-analyze", "verify", socket, exporter)
    assert verified.stdout + verified.stderr == ""
    service.run("systemctl", "start", socket)
    assert "\ntcp_keepalive_scan_complete 1\n" in service.until(lambda: scraped(service))
    pid = service.run("systemctl", "show", "--value", "--property=MainPID", exporter).stdout.strip()
    fields = dict(
        line.split(":\t", 1) for line in service.path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    )
    assert (int(fields["CapPrm"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"]) == (0, 0, "1")
    daemon = service.path(f"/proc/{service.main_process()}/status").read_text(encoding="ascii")
    assert fields["Uid"] not in daemon
    assert os.readlink(service.path(f"/proc/{pid}/ns/net")) != os.readlink(service.path("/proc/1/ns/net"))
    assert exposure(service, exporter) <= 1.0
    service.run("systemctl", "try-restart", exporter, socket)  # as an upgrade does
    service.until(lambda: scraped(service))
    service.run("systemctl", "stop", socket, exporter)


def scraped(service: Machine) -> str:
    """What the daemon has answered; nothing where it had no processor for 2 s."""
    text = service.run("python3", "-c", SCRAPE).stdout
    return text if "\ntcp_keepalive_up 1\n" in text else ""


def drop_ins(service: Machine) -> list[Path]:
    """As the package ships them."""
    return sorted(service.path("/usr/share/doc/tcp-keepalived/examples/drop-ins").glob("*.conf"))


@pytest.mark.parametrize(
    ("drop_in", "configuration", "applied"),
    [
        ("observe-only.conf", "[keepalive]\napply = false\n", UNTUNED),
        ("own-namespace.conf", '[watch]\nnamespaces = "own"\n', KEEPALIVE),
    ],
)
def test_what_a_feature_does_not_need_can_be_taken_away(
    service: Machine, drop_in: str, configuration: str, applied: dict[str, int]
) -> None:
    """With each drop-in, and the setting that its comment names, all else works as before."""
    (text,) = (file.read_text(encoding="utf-8") for file in drop_ins(service) if file.name == drop_in)
    configure(service, configuration + (QUICK if "watch" not in configuration else QUICK.replace("[watch]", "")))
    service.drop_in(text)
    after = service.now()
    service.systemctl("restart")
    service.main_process()
    assert service.keepalive == applied
    pid = crowd(service, ADDRESS, "7000", "1", "1")
    assert service.expect("bare", after)["KEEPALIVE_PID"] == str(pid)
    assert not service.entries("refused", after)
    assert not service.entries("unwatched", after)


ABORTED = """
import socket, struct
with socket.create_server(("{address}", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
    far = listener.accept()[0]
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
"""


def test_with_what_reading_packets_needs_a_reset_is_told_without_bpf(service: Machine) -> None:
    """The unit as it is shipped allows no packets, and says so."""
    configure(service, QUICK)
    assert "packets cannot be read" in service.expect("started")["KEEPALIVE_UNSEEN"]
    assert "the drop-in bpf.conf or packets.conf helps" in service.run("keepalivectl", "deaths").stdout
    assert "\nends         only ends that this host gave up are seen" in service.run("keepalivectl", "status").stdout
    (text,) = (file.read_text(encoding="utf-8") for file in drop_ins(service) if file.name == "packets.conf")
    service.drop_in(text)
    after = service.now()
    service.systemctl("restart")
    service.main_process()
    service.run("python3", "-c", ABORTED.format(address=ADDRESS))
    assert service.expect("died", after)["KEEPALIVE_CAUSE"] == "peer-aborted"
    assert "packets cannot be read" not in service.expect("started", after)["KEEPALIVE_UNSEEN"]


def test_a_reload_puts_a_good_file_in_force(service: Machine) -> None:
    """At once, by the same process."""
    pid, after = service.main_process(), service.now()
    configure(service, '[keepalive]\nidle = "170s"\n')
    service.expect("reloaded", after)
    assert service.keepalive["net.ipv4.tcp_keepalive_time"] == 170
    assert service.main_process() == pid


def test_a_reload_with_a_broken_file_fails_changes_nothing_and_names_file_and_key(service: Machine) -> None:
    """The command fails and says where to look; the old settings stay; the journal and the status say what is wrong."""
    pid, after = service.main_process(), service.now()
    service.write(OURS, '[keepalive]\nidel = "170s"\n')
    reload = service.run("systemctl", "reload", UNIT, check=False)
    assert reload.returncode != 0
    assert f"systemctl status {UNIT}" in reload.stderr
    assert "journalctl" in reload.stderr
    said = service.expect("reload-failed", after)["MESSAGE"]
    for word in (OURS, "keepalive.idel", "did you mean idle?"):
        assert word in said
        assert word in service.show("StatusText")
        assert word in service.run("systemctl", "status", "--no-pager", "--full", "--lines=0", UNIT).stdout
    assert service.keepalive == KEEPALIVE
    assert service.main_process() == pid
    assert service.show("SubState") == "running"
    configure(service, '[keepalive]\nidle = "170s"\n')
    service.until(lambda: OURS not in service.show("StatusText"))


def test_a_reload_names_the_file_whose_value_does_not_fit_to_that_of_another(service: Machine) -> None:
    """The shipped file sets an interval of 20 seconds; a drop-in that sets less idle time is the one to correct."""
    after = service.now()
    service.write(OURS, '[keepalive]\nidle = "10s"\n')
    assert service.run("systemctl", "reload", UNIT, check=False).returncode != 0
    assert OURS in service.expect("reload-failed", after)["MESSAGE"]
    assert f"keepalivectl: {OURS}" in "\n".join(
        f"{entry['SYSLOG_IDENTIFIER']}: {entry['MESSAGE']}" for entry in service.said(after=after)
    )


def test_a_reload_of_a_good_file_adds_nothing_to_the_journal_but_the_entries_of_the_daemon(service: Machine) -> None:
    """The check of the files is silent."""
    after = service.now()
    configure(service, '[keepalive]\nidle = "170s"\n')
    service.expect("reloaded", after)
    said = service.said(f"_SYSTEMD_UNIT={UNIT}", after=after)
    assert {entry["SYSLOG_IDENTIFIER"] for entry in said} == {"tcp-keepalived"}


def test_a_restart_with_a_broken_file_is_not_tried_for_ever(service: Machine) -> None:
    """A configuration error is for a person; what was found is given back."""
    service.write(OURS, '[keepalive]\nidle = "0s"\n')
    after = service.now()
    assert service.run("systemctl", "restart", UNIT, check=False).returncode != 0
    assert service.show("ActiveState") == "failed"
    assert service.show("ExecMainStatus") == str(int(Exit.CONFIG))
    for word in (OURS, "keepalive.idle"):
        assert word in service.journal(after)
    assert service.keepalive == UNTUNED


def test_a_restart_is_a_new_process_with_the_same_settings(service: Machine) -> None:
    """The ordinary way."""
    pid = service.main_process()
    service.systemctl("restart")
    assert service.main_process() != pid
    assert service.keepalive == KEEPALIVE


def test_killed_it_comes_again_and_still_knows_what_it_found(service: Machine) -> None:
    """Restart=on-failure, and the record on the disk."""
    pid = service.main_process()
    service.systemctl("kill", "--signal=KILL")
    service.until(lambda: service.show("NRestarts") == "1")
    assert service.main_process() != pid
    assert service.keepalive == KEEPALIVE
    service.systemctl("stop")
    assert service.keepalive == UNTUNED


def test_a_hang_is_noticed(service: Machine) -> None:
    """The watchdog ends a daemon that gives no sign of life, and systemd starts another."""
    assert service.show("WatchdogUSec") == "1min"
    service.drop_in("[Service]\nWatchdogSec=10s\n")  # no busy machine may end it before it hangs
    service.systemctl("restart")
    pid, after = service.main_process(), service.now()
    service.systemctl("kill", "--signal=STOP")
    service.until(lambda: service.show("NRestarts") == "1")
    assert service.main_process() != pid
    assert "Watchdog timeout" in service.journal(after)
    assert service.keepalive == KEEPALIVE


def test_a_daemon_that_was_frozen_goes_on_where_it_was(service: Machine) -> None:
    """For longer than a scan's interval, as by a container's pause; its wait is over when it is thawed."""
    configure(service, QUICK)
    pid, after = service.main_process(), service.now()
    for _ in range(5):
        service.systemctl("freeze")
        service.run("sleep", "1")
        service.systemctl("thaw")
        service.run("sleep", "0.1")  # for a wait that ends by mistake
        assert service.main_process() == pid
    assert service.keepalive == KEEPALIVE
    assert not [entry for entry in service.said(after=after) if int(entry["PRIORITY"]) <= ERROR]
    crowd(service, ADDRESS, "7000", "1", "1")
    service.expect("bare", after, KEEPALIVE_UNIT=CROWD_UNIT)


def test_it_gives_signs_of_life_also_when_it_seldom_scans(service: Machine) -> None:
    """The watchdog's period is shorter than the scan's."""
    service.drop_in("[Service]\nWatchdogSec=13s\n")  # two signs of life, 6 s of which a busy machine may take
    service.systemctl("restart")
    pid = service.main_process()
    service.run("sleep", "14")
    assert service.main_process() == pid


def test_a_stop_restores_what_was_found(service: Machine) -> None:
    """And says so, setting by setting."""
    after = service.now()
    service.systemctl("stop")
    assert service.keepalive == UNTUNED
    assert {entry["KEEPALIVE_SYSCTL"] for entry in service.entries("restored", after)} == set(UNTUNED)
    assert service.show("Result") == "success"


def test_the_owner_of_a_socket_is_named(service: Machine) -> None:
    """Another user's process and unit, which takes CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH."""
    configure(service, QUICK)
    after = service.now()
    pid = crowd(service, ADDRESS, "7000", "1", "1")
    entry = service.expect("bare", after, KEEPALIVE_PID=pid)
    assert entry["KEEPALIVE_UNIT"] == CROWD_UNIT
    assert entry["KEEPALIVE_PROCESS"] == "python3"
    assert entry["KEEPALIVE_UID"] == "1"
    assert entry["KEEPALIVE_PATH"] == "here"
    assert entry["KEEPALIVE_REMOTE_ADDRESS"] == ADDRESS


def test_a_warning_stands_beside_the_lines_of_the_unit_that_it_is_about(service: Machine) -> None:
    """By its field: journald would file entries under another unit, by OBJECT_PID, only for root."""
    configure(service, QUICK)
    after = service.now()
    crowd(service, ADDRESS, "7000", "1", "1")
    service.expect("bare", after)
    both = service.run(
        "journalctl",
        "--quiet",
        f"_SYSTEMD_UNIT={CROWD_UNIT}",
        "+",
        f"_SYSTEMD_UNIT={UNIT}",
        f"KEEPALIVE_UNIT={CROWD_UNIT}",
    ).stdout
    assert "connected" in both
    assert f"{ADDRESS}:7000" in both


FORGED = """MESSAGE=forged
MESSAGE_ID={message_id}
KEEPALIVE_UNIT={unit}
SYSLOG_IDENTIFIER=tcp-keepalived
"""


def test_no_query_of_the_handbook_finds_entries_that_a_user_has_forged(service: Machine) -> None:
    """They have everything that a user may give them."""
    units = ("X.service", "amanda@backup.service", "backup.service")
    forged = [FORGED.format(message_id=MESSAGE_IDS[event], unit=unit) for unit in units for event in ("armed", "died")]
    service.write("/tmp/forged", "\n".join(forged))
    service.run("sh", "-c", "setpriv --reuid=65534 --regid=65534 --clear-groups logger --journald < /tmp/forged")
    service.run("journalctl", "--sync")
    by_identity = f"MESSAGE_ID={MESSAGE_IDS['armed']}"
    assert "forged" in service.run("journalctl", "--quiet", by_identity).stdout
    for query in journal_queries():
        words = [by_identity if word.startswith("MESSAGE_ID=") else word for word in query]
        assert "forged" not in service.run("journalctl", "--quiet", *words).stdout, query
    for listed in ("log", "deaths"):
        assert "forged" not in service.run("keepalivectl", listed, "--json").stdout


def test_other_network_namespaces_are_watched(service: Machine) -> None:
    """Also those that appear later, which takes CAP_SYS_ADMIN and RestrictNamespaces=net."""
    configure(service, QUICK)
    after = service.now()
    service.run("sh", "-ec", "ip netns add blue; ip -n blue link set lo up; ip -n blue addr add 10.77.9.1/24 dev lo")
    try:
        pid = crowd(
            *(service, "10.77.9.1", "7000", "1", "1"), options=("--property=NetworkNamespacePath=/run/netns/blue",)
        )
        entry = service.expect("bare", after, KEEPALIVE_NETNS=inode(service, "blue"))
        assert entry["KEEPALIVE_PID"] == str(pid)
        assert entry["KEEPALIVE_UNIT"] == CROWD_UNIT
        assert not service.entries("unwatched", after)
    finally:
        service.run("ip", "netns", "delete", "blue")


def test_a_path_is_chosen_by_interface(service: Machine) -> None:
    """With this Debian's pyroute2."""
    configure(service, QUICK.replace('networks = ["10.77.0.0/16"]', 'interface = "here"'))
    after = service.now()
    crowd(service, ADDRESS, "7000", "1", "1")
    assert service.expect("bare", after)["KEEPALIVE_PATH"] == "here"


def test_a_storm_loses_no_warning(service: Machine) -> None:
    """10,000 sockets go bare at once, on paths enough for more entries than journald lets pass by itself.

    Both ends of each connection are here, and one of them is reported.
    """
    ports = range(7000, 7100)
    paths = (f'[[path]]\nname = "port {port}"\nports = [{port}]\ntimeout = "48s"\n' for port in ports)
    few = "/run/systemd/journald.conf.d/few.conf"
    service.write(few, "[Journal]\nRateLimitIntervalSec=1min\nRateLimitBurst=1\n")
    service.run("systemctl", "restart", "systemd-journald.service")
    try:
        crowd(service, ADDRESS, str(ports.start), str(len(ports)), "50")
        connections = 50 * len(ports)
        time.sleep(24)  # half the timeout: the next scan finds all of them bare, and no end of any a moment earlier
        after = service.now()
        configure(service, '[watch]\ninterval = "1s"\nwarn_before = "24s"\nignore = []\n' + "".join(paths))

        def told() -> int:
            entries = service.entries("bare", after, KEEPALIVE_UNIT=CROWD_UNIT)
            return sum(int(entry.get("KEEPALIVE_COUNT", "1")) for entry in entries)

        service.until(lambda: told() >= connections)
        assert told() == connections
        assert {entry["KEEPALIVE_PATH"] for entry in service.entries("bare", after)} == {
            f"port {port}" for port in ports
        }
        assert "Suppressed" not in service.journal(after)
    finally:
        service.path(few).unlink()
        service.run("systemctl", "restart", "systemd-journald.service")


def test_sockets_with_many_keys_hide_no_others_from_the_service(service: Machine) -> None:
    """Its sandbox allows what this requires: to give up CAP_NET_ADMIN for a moment."""
    configure(service, QUICK)
    after = service.now()
    crowd(service, ADDRESS, "7000", "1", "100", "keys")
    connections = 100  # of which one end each is reported

    def told() -> int:
        entries = service.entries("bare", after, KEEPALIVE_UNIT=CROWD_UNIT)
        return sum(int(entry.get("KEEPALIVE_COUNT", "1")) for entry in entries)

    service.until(lambda: told() >= connections)


@pytest.mark.parametrize(
    ("surroundings", "status", "cure"),
    [
        ("[Service]\nReadWritePaths=\n", Exit.NOPERM, "/proc/sys is read-only here"),
        (
            "[Service]\nReadWritePaths=\nTemporaryFileSystem=/proc/sys/net\n",
            Exit.UNAVAILABLE,
            "missing in this kernel or container",
        ),
    ],
)
def test_where_settings_cannot_be_written_it_says_so_and_can_watch_without(
    service: Machine, surroundings: str, status: Exit, cure: str
) -> None:
    """As in a container: the refusal names the setting and the cure, which then works."""
    service.drop_in(surroundings)
    after = service.now()
    assert service.run("systemctl", "restart", UNIT, check=False).returncode != 0
    assert service.show("ExecMainStatus") == str(int(status))
    assert service.show("ActiveState") == "failed"
    said = service.journal(after)
    assert "net.ipv4.tcp_keepalive_" in said
    assert cure in said
    service.write(OURS, f"[keepalive]\napply = false\n{QUICK}")
    service.systemctl("start")
    assert service.main_process()
    crowd(service, ADDRESS, "7000", "1", "1")
    service.expect("bare", after)


def test_it_starts_before_the_network_and_after_other_settings(service: Machine) -> None:
    """So no service opens a connection under the old settings."""
    assert "network-pre.target" in service.show("Before").split()
    assert "network-pre.target" in service.show("Wants").split()
    assert "systemd-sysctl.service" in service.show("After").split()


def test_the_control_program_works_without_root(service: Machine) -> None:
    """Sockets are listed for anybody."""
    crowd(service, ADDRESS, "7000", "1", "1")
    listed = service.run(
        "setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "keepalivectl", "sockets", "--each", "--all"
    )
    assert f"{ADDRESS}:7000" in listed.stdout


CONTROL = "/run/tcp-keepalived/control"


def test_half_the_name_of_a_unit_that_systemd_knows_offers_the_whole(service: Machine) -> None:
    """And what is there is not said to be missing for want of a connection."""
    done = service.run("keepalivectl", "why", "tcp-keepaliv", check=False)
    assert done.returncode == 66
    assert "no unit or process is called tcp-keepaliv; " in done.stderr
    assert f"; did you mean {UNIT}" in done.stderr
    done = service.run("keepalivectl", "why", UNIT, check=False)
    assert done.stderr.startswith(f"keepalivectl: {UNIT} has no connection; ")


def test_systemds_own_client_asks_the_daemon(service: Machine, suite: str) -> None:
    """Debian 12 has no varlinkctl yet; there keepalivectl asks. Others than root and the group may not."""
    process = service.main_process()
    service.until(lambda: f"(process {process})" in service.run("keepalivectl", "status").stdout)
    anybody = ("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups")
    said = service.run(*anybody, "keepalivectl", "status").stdout
    assert "cannot be asked: /run/tcp-keepalived/control: Permission denied; run as root, or as a member" in said
    assert "net.ipv4.tcp_keepalive_time: found " in service.run("keepalivectl", "log").stdout
    if suite != "bookworm":
        assert "internal.tcp-keepalived" in service.run("varlinkctl", "info", CONTROL).stdout
        assert "method Monitor" in service.run("varlinkctl", "introspect", CONTROL, "internal.tcp-keepalived").stdout
        call = ("varlinkctl", "call", "--json=short", CONTROL, "internal.tcp-keepalived.Status", "{}")
        status = json.loads(service.run(*call).stdout)
        assert status["pid"] == process
        assert {one["name"]: one["stands"] for one in status["settings"]} == service.keepalive


def varlink(service: Machine, method: str, *options: str, **parameters: object) -> list[Any]:
    """What systemd's client prints of the answers to a method."""
    words = ("varlinkctl", "call", "--json=short", *options, CONTROL, f"internal.tcp-keepalived.{method}")
    said = service.run(*words, json.dumps(parameters)).stdout
    return [json.loads(line) for line in said.replace("\x1e", "").splitlines() if line.strip()]


def test_systemds_own_client_calls_every_method(service: Machine, suite: str) -> None:
    """As it is described, with more, and as somebody who may give no order. Debian 12 has no such client."""
    if suite == "bookworm":
        assert service.run("sh", "-c", "command -v varlinkctl", check=False).returncode != 0
        return
    configure(service, ROOMY)
    holder = crowd(service, ADDRESS, "7410", "1", "1")
    service.until(lambda: CROWD_UNIT in service.run("keepalivectl", "status").stdout)
    described = service.run("varlinkctl", "introspect", CONTROL, "internal.tcp-keepalived").stdout
    methods = re.findall(r"^method (\w+)", described, re.MULTILINE)
    (paths,) = varlink(service, "ListPaths")
    assert {one["name"] for one in paths["paths"]} >= {"default", "here"}
    lists = varlink(service, "ListConnections", "--more", units=[CROWD_UNIT], ports=[7410])
    listed = [one for reply in lists for one in reply["connections"]]
    assert {one["verdict"] for one in listed} == {"bare"}
    assert len(listed) == 2
    cookie = listed[0]["cookie"]
    assert all(reply["columns"]["cookie"]["octets"] for reply in varlink(service, "ListMemory", "--more"))
    assert sum(one["total"] for reply in varlink(service, "ListNamespaces", "--more") for one in reply["namespaces"])
    (deaths,) = varlink(service, "ListDeaths")
    assert deaths.keys() == {"causes", "ordinary", "measured", "lost", "deaths"}
    (measured,) = varlink(service, "Metrics")
    assert measured["metrics"]
    (why,) = varlink(service, "Explain", cookies=[cookie])
    assert why["explained"][0]["connection"]["owner"]["pid"] == holder
    after = service.now()
    service.run("systemd-run", "--quiet", "--unit=watching", "sh", "-c", MONITORING)
    service.until(lambda: service.path("/run/watching").exists())
    (armed_,) = varlink(service, "Arm", cookie=cookie)
    assert armed_["result"] == "armed"
    assert service.expect("armed", after, KEEPALIVE_RULE="hand")["KEEPALIVE_BY_UID"] == "0"
    service.until(lambda: armed_["message"] in service.path("/run/watching").read_text(encoding="utf-8"))
    service.run("systemctl", "stop", "watching")
    (disarmed,) = varlink(service, "Disarm", cookie=cookie)
    assert disarmed["result"] == "disarmed"
    assert varlink(service, "Scan") == [{}]
    assert varlink(service, "Record") == [{}]
    assert varlink(service, "Measuring", cookies=[cookie]) == [{}]
    (undone,) = varlink(service, "Restore")
    assert undone["restored"] == sorted(service.keepalive)
    assert varlink(service, "Reload") == [{}]
    group = ("setpriv", "--reuid=daemon", "--regid=tcp-keepalived", "--clear-groups")
    refused = service.run(*group, "varlinkctl", "call", CONTROL, "internal.tcp-keepalived.Reload", "{}", check=False)
    assert refused.returncode != 0
    assert "org.varlink.service.PermissionDenied" in refused.stderr or "denied" in refused.stderr
    called = {"Status", "ListPaths", "ListConnections", "ListNamespaces", "ListDeaths", "Explain", "Arm", "Disarm"}
    called |= {"ListMemory"}
    assert set(methods) == called | {"Metrics", "Reload", "Monitor", "Scan", "Record", "Restore", "Measuring"}


MONITORING = f"varlinkctl call --more --json=short {CONTROL} internal.tcp-keepalived.Monitor '{{}}' >/run/watching"

ARMING = f"""
{ROOMY}
[[arm]]
unit = "{CROWD_UNIT}"
action = "enable"
idle = "auto"
"""


def armed(service: Machine) -> int:
    """How many of the crowd's sockets have a keepalive timer, by another tool."""
    return service.run("ss", "-tnoH", "src", ADDRESS).stdout.count("timer:(keepalive")


def test_open_connections_of_another_user_are_armed_within_the_sandbox_and_can_be_disarmed(service: Machine) -> None:
    """Their program set no keepalive, and is neither stopped nor told."""
    holder = crowd(service, ADDRESS, "7400", "1", "2")
    after = service.now()
    configure(service, ARMING)
    entry = service.expect("armed", after, KEEPALIVE_UNIT=CROWD_UNIT)
    assert (entry["KEEPALIVE_PID"], entry["KEEPALIVE_RULE"]) == (str(holder), "arm[1]")
    assert (entry["KEEPALIVE_BEFORE_ON"], entry["KEEPALIVE_AFTER_ON"]) == ("0", "1")
    service.until(lambda: armed(service) == 4)
    said = service.run("keepalivectl", "disarm").stdout
    assert said.count("disarmed") == 4
    assert armed(service) == 0
    service.expect("unarmed", after, KEEPALIVE_RESULT="changed-since")
    assert armed(service) == 0


def test_a_stop_disarms_where_that_is_wanted(service: Machine) -> None:
    crowd(service, ADDRESS, "7401", "1", "1")
    configure(service, f"{ARMING}\n[keepalive]\ndisarm_on_stop = true\n")
    service.until(lambda: armed(service) == 2)
    after = service.now()
    service.systemctl("stop")
    service.expect("disarmed", after)
    assert armed(service) == 0


def start_with_bpf(service: Machine, configuration: str) -> int:
    """The service with this configuration and the drop-in that gives what BPF takes; since when."""
    (text,) = (file.read_text(encoding="utf-8") for file in drop_ins(service) if file.name == "bpf.conf")
    service.write(OURS, configuration.replace("[watch]", '[watch]\nengine = "bpf"'))
    service.drop_in(text)
    after = service.now()
    service.systemctl("restart")
    service.main_process()
    return after


def test_with_what_bpf_needs_sockets_are_read_and_armed_by_it(service: Machine) -> None:
    """Within the same sandbox."""
    after = start_with_bpf(service, ARMING)
    said = str(service.expect("started", after)["KEEPALIVE_ENGINE"])
    assert "bpf engine" in said
    assert "one namespace at a time" not in said, "as on kernels that are too old to be read in one pass"
    crowd(service, ADDRESS, "7402", "1", "1")
    assert service.expect("armed", after)["KEEPALIVE_UNIT"] == CROWD_UNIT
    service.until(lambda: armed(service) == 2)


def test_with_what_bpf_needs_ends_of_connections_are_explained_and_listed(service: Machine) -> None:
    """From the journal, as the person who asks reads it."""
    after = start_with_bpf(service, QUICK)
    crowd(service, ADDRESS, "7409", "1", "1")
    service.until(lambda: CROWD_UNIT in service.run("keepalivectl", "status").stdout)  # a scan has seen its unit
    service.run("systemctl", "kill", "--signal=KILL", CROWD_UNIT)
    service.expect("died", after, KEEPALIVE_CAUSE="program-killed", KEEPALIVE_SIGNAL="9", KEEPALIVE_UNIT=CROWD_UNIT)
    service.run("systemctl", "reset-failed", CROWD_UNIT)
    assert "program-killed" in service.run("keepalivectl", "deaths", CROWD_UNIT, "--since=1h").stdout
    listed = json.loads(service.run("keepalivectl", "deaths", CROWD_UNIT, "--json").stdout)
    killed = next(each["id"] for each in listed if each["cause"] == "program-killed")
    explained = service.run("keepalivectl", "deaths", CROWD_UNIT, f"--explain={killed}").stdout
    assert "seen: the program was ended by SIGKILL" in explained


AT_CONNECT = f"""
{QUICK}
[[arm]]
networks = ["10.77.0.0/16"]
action = "enable"
idle = "1s"
interval = "1s"
"""
SURVIVING = f"{AT_CONNECT}\n[keepalive]\nsurvive_stop = true\n"
BPFFS = "/sys/fs/bpf"


def pinned(service: Machine) -> str:
    """What of ours stands in the BPF file system."""
    return service.run("find", BPFFS, "-path", f"{BPFFS}/tcp-keepalived*").stdout


def test_with_what_bpf_needs_new_connections_are_armed_while_they_are_opened(service: Machine) -> None:
    """No scan finds anything left to do."""
    after = start_with_bpf(service, AT_CONNECT)
    assert "new connections are armed at connect" in str(service.expect("started", after)["MESSAGE"])
    crowd(service, ADDRESS, "7403", "1", "1")
    assert armed(service) == 2
    assert service.expect("armed", after)["KEEPALIVE_RESULT"] == "armed-at-connect"
    service.systemctl("stop")
    service.run("systemctl", "stop", CROWD_UNIT)
    crowd(service, ADDRESS, "7404", "1", "1")
    assert armed(service) == 0
    assert pinned(service) == ""


def test_with_what_bpf_needs_protection_can_survive_a_stop_until_it_is_disarmed(service: Machine) -> None:
    """Also a restart in between, which pins it anew."""
    after = start_with_bpf(service, SURVIVING)
    service.systemctl("restart")
    service.main_process()
    for entry in service.entries("started", after):
        assert str(entry["MESSAGE"]).endswith("new connections are armed at connect")
    service.systemctl("stop")
    crowd(service, ADDRESS, "7405", "1", "1")
    assert armed(service) == 2
    pin = f"{BPFFS}/tcp-keepalived/connect"
    assert f"pinned: {pin} arms new connections" in service.run("keepalivectl", "engine").stdout
    assert f"removed {pin}; " in service.run("keepalivectl", "disarm").stdout
    assert pinned(service) == ""
    service.run("systemctl", "stop", CROWD_UNIT)
    crowd(service, ADDRESS, "7406", "1", "1")
    assert armed(service) == 0


def test_with_what_bpf_needs_a_reload_pins_and_removes_as_it_is_then_wanted(service: Machine) -> None:
    """Within the sandbox of the daemon that runs."""
    start_with_bpf(service, AT_CONNECT)
    for configuration, stays in ((SURVIVING, True), (AT_CONNECT, False)):
        after = service.now()
        configure(service, configuration)
        assert str(service.expect("reloaded", after)["MESSAGE"]).endswith("armed at connect")
        assert ("tcp-keepalived/connect" in pinned(service)) is stays
    service.systemctl("stop")
    assert pinned(service) == ""


def test_where_nothing_can_be_pinned_new_connections_are_armed_until_the_stop(service: Machine) -> None:
    """And it is told why. What was pinned here goes with the file system."""
    service.run("umount", BPFFS)
    try:
        after = start_with_bpf(service, SURVIVING)
        said = str(service.expect("started", after)["MESSAGE"])
        assert f"but not after the daemon stops (keepalive.survive_stop: {BPFFS}/tcp-keepalived/connect: " in said
        assert "bpf.conf" in said
        crowd(service, ADDRESS, "7407", "1", "1")
        assert armed(service) == 2
        service.systemctl("stop")
        service.run("systemctl", "stop", CROWD_UNIT)
        crowd(service, ADDRESS, "7408", "1", "1")
        assert armed(service) == 0
    finally:
        service.run("mount", "-t", "bpf", "-o", "mode=700", "bpf", BPFFS)
