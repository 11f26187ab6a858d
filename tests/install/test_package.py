"""The package's life under real systemd: installed, upgraded, removed, purged; in this order on one machine."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.install.conftest import install
from tests.install.machine import KEEPALIVE, UNIT, UNTUNED, Machine
from tests.install.packages import CONFIGURATION, PROJECT, Package

CARRIED = {
    *("keepalived", "annotated_types", "pydantic", "pydantic_core", "pyroute2"),
    *("typing_extensions.py", "typing_inspection"),
}
METRICS = "tcp-keepalived-metrics.socket"
AUTOPKGTEST = PROJECT / "packaging/debian/tests/service"
COPYRIGHT = "/usr/share/doc/tcp-keepalived/copyright"
BROKEN = "/etc/tcp-keepalived/config.d/broken.toml"
SHIPPED, EDITED = 'interval = "15s"', 'interval = "7s"'
EVERYTHING = ("find", "/", "-xdev", "(", "-path", "/tmp", "-o", "-path", "/root", "-o", "-path", "/var/lib/dpkg", ")")
NOT_OURS = (  # that any installation changes
    "/etc/group",
    "/etc/gshadow",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/.pwd.lock",
    "/var/backups",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/systemd/catalog",
    "/var/lib/systemd/deb-systemd-helper",
    "/var/log",
)
PLANTED = """
export HOME=/tmp/planted
site=$(python3 -c 'import site; print(site.getusersitepackages())')
mkdir -p "$site"
echo 'print("planted")' > "$site/usercustomize.py"
{program} --version | sed 's/.* //'
rm -r $HOME
"""
SURVIVING = '[keepalive]\nsurvive_stop = true\n[[arm]]\nports = [7000]\naction = "enable"\nidle = "60s"\n'


def files(machine: Machine) -> set[str]:
    """Every file there is, but those that any installation changes."""
    found = machine.run(*EVERYTHING, "-prune", "-o", "-print").stdout.splitlines()
    return {file for file in found if not file.startswith(NOT_OURS)}


def test_it_carries_no_package_that_its_debian_has(suite: str, package: Package) -> None:
    """Debian 12 has NumPy and psutil, but only older versions of pydantic and pyroute2."""
    library = "/usr/lib/tcp-keepalived/"
    names = (path.removeprefix(library).split("/")[0] for path in package.content if path.startswith(library))
    carried = {name.lower() for name in names if name and not name.endswith((".dist-info", ".libs"))}
    assert carried == (CARRIED if suite == "bookworm" else set())
    assert package.file.stat().st_size < 3_500_000


@pytest.fixture(scope="module")
def before(machine: Machine) -> set[str]:
    """The files before anything of ours was there."""
    return files(machine)


@pytest.fixture(scope="module")
def other(machine: Machine) -> str:
    """What dpkg thinks of the other keepalived's files before anything of ours was there."""
    return machine.run("dpkg", "--verify", "keepalived", check=False).stdout


def test_it_is_installed_with_nothing_but_what_it_asks_for(
    machine: Machine, before: set[str], other: str, previous_package: Package
) -> None:
    """After apt's installation the service is enabled, ready, and has tuned the machine."""
    assert "/usr/sbin/keepalived" in before
    assert "/usr/sbin" not in other
    assert machine.keepalive == UNTUNED
    install(machine, previous_package)
    assert machine.run("dpkg-query", "-W", "-f=${Status}", "tcp-keepalived").stdout == "install ok installed"
    assert machine.says("enabled", "systemctl", "is-enabled", UNIT)
    assert machine.main_process()
    assert machine.keepalive == KEEPALIVE


def test_its_programs_run_nothing_that_the_services_user_has_written(machine: Machine) -> None:
    """With the daemon's capabilities, or as root."""
    assert machine.run("getent", "passwd", "tcp-keepalived").stdout.split(":")[5] == "/nonexistent"
    for program in ("tcp-keepalived", "keepalivectl"):
        ran = machine.run("sh", "-c", PLANTED.format(program=program)).stdout
        assert ran == "0.1.0\n", program


def test_it_stands_beside_the_other_keepalived(machine: Machine, other: str) -> None:
    """The VRRP daemon's package shares no file with ours, and none of its files was touched."""
    ours, theirs = (
        {line for line in machine.run("dpkg-query", "-L", name).stdout.splitlines() if not machine.path(line).is_dir()}
        for name in ("tcp-keepalived", "keepalived")
    )
    assert "/usr/bin/tcp-keepalived" in ours
    assert "/usr/sbin/keepalived" in theirs
    assert not ours & theirs
    assert machine.run("dpkg", "--verify", "keepalived", check=False).stdout == other
    for field in ("Conflicts", "Breaks", "Replaces", "Provides"):
        assert machine.says("", "dpkg-query", "-W", f"-f=${{{field}}}", "tcp-keepalived")


def test_what_it_carries_is_named_with_its_licence(machine: Machine, package: Package) -> None:
    """Each wheel by its version."""
    text = machine.path(COPYRIGHT).read_text(encoding="utf-8")
    wheels = [path.split("/")[4] for path in package.content if re.fullmatch(r"/usr/lib/tcp-k.*\.dist-info/", path)]
    for wheel in wheels:
        name, version = wheel.removesuffix(".dist-info").split("-")
        assert (f"Files: wheels/{name}-{version}-*" in text) is (name != "keepalived"), name
    assert text.count("\nLicense: ") == 1 + max(0, len(wheels) - 1)


def test_its_own_test_for_debian_passes(machine: Machine) -> None:
    """As autopkgtest would run it."""
    shutil.copy(AUTOPKGTEST, machine.path("/root/service"))
    machine.run("/root/service")


def test_an_upgrade_keeps_an_edited_configuration_and_gives_nothing_back_in_between(
    machine: Machine, package: Package
) -> None:
    """The successor takes over what its predecessor set; a look every few milliseconds sees nothing else."""
    configuration = machine.path(CONFIGURATION)
    configuration.write_text(configuration.read_text(encoding="utf-8").replace(SHIPPED, EDITED), encoding="utf-8")
    edited = configuration.read_text(encoding="utf-8")
    assert EDITED in edited
    old, before_upgrade = machine.main_process(), machine.now()
    machine.run(
        *("systemd-run", "--quiet", "--unit=lookout", "--property=StandardOutput=file:/run/seen", "sh", "-c"),
        "while :; do cat /proc/sys/net/ipv4/tcp_keepalive_time; sleep 0.005; done",
    )
    install(machine, package, "-o", "Dpkg::Options::=--force-confold")
    machine.until(lambda: machine.main_process() != old)
    machine.run("systemctl", "stop", "lookout.service")
    seen = machine.path("/run/seen").read_text(encoding="ascii").split()
    assert len(seen) > 20
    assert set(seen) == {"180"}
    assert not machine.entries("restored", before_upgrade)
    assert configuration.read_text(encoding="utf-8") == edited
    assert machine.run("dpkg-query", "-W", "-f=${Version}", "tcp-keepalived").stdout == package.field("Version")
    assert not machine.path("/run/tcp-keepalived/handover").exists()


def test_after_an_upgrade_a_stop_restores_what_the_first_daemon_found(machine: Machine) -> None:
    """The successor has its predecessor's record."""
    machine.systemctl("stop")
    assert machine.keepalive == UNTUNED
    machine.systemctl("start")
    assert machine.keepalive == KEEPALIVE


def test_an_upgrade_whose_restart_fails_restores_what_the_first_daemon_found(
    machine: Machine, previous_package: Package, package: Package
) -> None:
    """The old daemon left its settings to a new one, which a broken file keeps from starting."""
    machine.run("apt-get", "-qq", "-y", "remove", "tcp-keepalived")
    install(machine, previous_package, "-o", "Dpkg::Options::=--force-confold")
    machine.main_process()
    assert machine.keepalive == KEEPALIVE
    machine.write(BROKEN, "[keepalive]\nidel = 5\n")
    upgrade = install(machine, package, "-o", "Dpkg::Options::=--force-confold")
    assert machine.show("ActiveState") == "failed"
    assert machine.keepalive == UNTUNED
    assert not machine.path("/run/tcp-keepalived").exists()
    assert f"tcp-keepalived did not start after the upgrade; see systemctl status {UNIT}" in upgrade
    machine.path(BROKEN).unlink()
    machine.run("systemctl", "reset-failed", UNIT)
    machine.systemctl("start")
    assert machine.keepalive == KEEPALIVE


def test_removal_restores_even_what_a_killed_daemon_left(machine: Machine) -> None:
    """The record outlives the daemon, and is read before the package goes."""
    machine.write(f"/run/systemd/system/{UNIT}.d/norestart.conf", "[Service]\nRestart=no\n")
    machine.run("systemctl", "daemon-reload")
    machine.systemctl("kill", "--signal=KILL")
    machine.until(lambda: machine.show("ActiveState") == "failed")
    assert machine.keepalive == KEEPALIVE
    machine.run("apt-get", "-qq", "-y", "remove", "tcp-keepalived")
    assert machine.keepalive == UNTUNED
    assert machine.path(CONFIGURATION).exists()
    machine.path(f"/run/systemd/system/{UNIT}.d/norestart.conf").unlink()


def test_it_can_be_installed_again_and_removal_stops_it(machine: Machine, package: Package) -> None:
    """Between removal and purge the configuration waits."""
    install(machine, package)
    assert machine.main_process()
    assert machine.keepalive == KEEPALIVE
    assert EDITED in machine.path(CONFIGURATION).read_text(encoding="utf-8")
    machine.run("systemctl", "start", METRICS)
    machine.run("apt-get", "-qq", "-y", "remove", "tcp-keepalived")
    assert machine.show("LoadState") in ("not-found", "masked")
    assert machine.says("inactive", "systemctl", "is-active", METRICS)
    assert machine.keepalive == UNTUNED


def test_removal_ends_what_was_to_survive_the_daemon(machine: Machine, package: Package) -> None:
    """Nobody would be there to end it."""
    install(machine, package)
    drop_in = machine.path("/usr/share/doc/tcp-keepalived/examples/drop-ins/bpf.conf").read_text(encoding="utf-8")
    machine.write("/etc/tcp-keepalived/config.d/test.toml", SURVIVING)
    machine.drop_in(drop_in)
    machine.run("systemctl", "reset-failed", UNIT, check=False)  # it was started often enough by now
    machine.systemctl("restart")
    machine.main_process()
    machine.systemctl("stop")
    assert "arms new connections" in machine.run("keepalivectl", "engine").stdout
    machine.run("apt-get", "-qq", "-y", "remove", "tcp-keepalived")
    assert machine.says("", "find", "/sys/fs/bpf", "-path", "/sys/fs/bpf/tcp-keepalived*")
    shutil.rmtree(machine.path(f"/run/systemd/system/{UNIT}.d"))


def test_purging_leaves_nothing(machine: Machine, before: set[str]) -> None:
    """No file, no user, no state."""
    machine.run("apt-get", "-qq", "-y", "purge", "tcp-keepalived")
    assert files(machine) - before == set()
    assert before - files(machine) == set()
    assert machine.run("getent", "passwd", "tcp-keepalived", check=False).stdout == ""
    assert machine.run("getent", "group", "tcp-keepalived", check=False).stdout == ""
    machine.run("systemctl", "daemon-reload")
    assert machine.show("LoadState") == "not-found"
    assert machine.run("dpkg-query", "-W", "tcp-keepalived", check=False).returncode != 0
