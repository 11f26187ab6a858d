"""keepalivectl why says what getsockopt, ss and conntrack say of the same socket; and --fix makes it safe."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keepaliveD.cli.asking.asking import ask
from keepaliveD.model import duration
from tests.kernel.test_own_firewall import FORGETS as ESTABLISHED
from tests.kernel.test_own_firewall import guarded
from tests.kernel.test_rescue import by
from tests.support.patience import SOON, wait_for
from tests.support.processes import (
    CTL,
    ENABLE,
    SCAN,
    TUNED,
    WARNING_TIME,
    Home,
    Program,
    arming,
    configuration,
    program,
)
from tests.support.rig import INTERVAL, LIBC, PROBES, SERVER, TIME, Namespace, Rig
from tests.support.rig import TIMEOUT as FIREWALL
from tests.support.unprivileged import reachable_directory
from tests.support.versions import ITERATOR, since

TIMEOUT = 240  # seconds without a packet after which the firewall forgets
PIDFD_GETFD = 438  # pidfd_getfd(2), on every machine
CONFIGURATION = configuration(idle=20, timeout=TIMEOUT)
SHORT = 8  # seconds between probes
ATTEMPTS = 10  # on a busy machine
SPANS = re.compile(r"keepalive in (.*)$", re.MULTILINE)
FORGETS = re.compile(r"the path (?:forgets|would forget) this connection in ([^,.]*)[,.]")


def why(rig: Rig, home: Home, target: object, *words: str) -> str:
    """What `keepalivectl why` prints there."""
    done = rig.client.run(*CTL, "why", str(target), *words, f"--config={home.file}", f"--state-dir={home.state}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(asked: Program) -> tuple[int, int, int, int]:
    """What getsockopt(2) says of the program's socket: on, idle, interval, probes."""
    process = os.pidfd_open(asked.pid)
    try:
        for name in os.listdir(f"/proc/{asked.pid}/fd"):
            if os.readlink(f"/proc/{asked.pid}/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=LIBC.syscall(PIDFD_GETFD, process, int(name), 0)) as its:
                    tcp = [its.getsockopt(socket.IPPROTO_TCP, option) for option in (4, 5, 6)]
                    return its.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), tcp[0], tcp[1], tcp[2]
    finally:
        os.close(process)
    raise AssertionError("the program has no socket")


def timer(rig: Rig, asked: Program) -> float:
    """Seconds until the keepalive timer fires, as ss(8) shows it; infinite without one."""
    port = asked.endpoints["KEEPALIVE_LOCAL_PORT"]
    shown = rig.client.run("ss", "-tnoH", "sport", "=", f":{port}").stdout
    found = re.search(r"timer:\(keepalive,([^,]*),", shown)
    if not found:
        return float("inf")
    if found[1].endswith("ms"):  # of seconds with a fraction ss writes 3.948ms, of less 948ms
        number = found[1].removesuffix("ms")
        return float(number) if "." in number else int(number) / 1000
    return duration.parse(re.sub(r"(min|sec)", r"\1 ", found[1]))


def acknowledged(rig: Rig, asked: Program) -> float:
    """Seconds since the last acknowledgement, as ss(8) shows it."""
    port = asked.endpoints["KEEPALIVE_LOCAL_PORT"]
    found = re.search(r"lastack:([0-9]+)", rig.client.run("ss", "-tinH", "sport", "=", f":{port}").stdout)
    return int(found[1]) / 1000 if found else 0.0  # of none ss says nothing


def held_by_getsockopt(said: str, asked: Program) -> None:
    """Fail unless the page says what stands in the socket."""
    on, idle, interval, probes = settings(asked)
    if not on:
        assert "keepalive    off" in said
        return
    (line,) = re.findall(r"^  keepalive    on, ([^\n]*)", said, re.MULTILINE)
    said = line.partition("; before:")[0]
    shown = {name: int(value) for name, value in re.findall(r"(probes) ([0-9]+)", said)}
    times = re.findall(r"(idle|interval) ([0-9][^,;(]*)", said)
    shown |= {name: round(duration.parse(value)) for name, value in times}
    assert shown == {"idle": idle, "interval": interval, "probes": probes}


def while_the_timer_runs(rig: Rig, home: Home, asked: Program) -> tuple[str, float]:
    """What `why` prints between two looks of ss at a timer that does not begin anew, and the time that it shows.

    Fail unless that is between what ss shows, which rounds.
    """
    for _ in range(ATTEMPTS):
        before = timer(rig, asked)
        said = why(rig, home, asked.pid)
        after = timer(rig, asked)
        if after <= before:
            found = SPANS.search(said)
            shown = duration.parse(found[1]) if found else float("inf")
            assert after - rounded(after) <= shown <= before + rounded(before)
            return said, shown
    raise AssertionError("the timer begins anew each time")


def rounded(seconds: float) -> float:
    """By how much a time may be rounded where minutes are shown."""
    return 0.0 if seconds == float("inf") else max(1.0, seconds / 60)


def remembered(firewall: Namespace, asked: Program) -> float:
    """For how many seconds a firewall still remembers the connection, as conntrack(8) shows it."""
    shown = firewall.run("conntrack", "-L", "-p", "tcp", "--sport", str(asked.endpoints["KEEPALIVE_LOCAL_PORT"]))
    found = re.search(r"^tcp +6 ([0-9]+) ESTABLISHED ", shown.stdout, re.MULTILINE)
    assert found, shown
    return float(found[1])


def held_by_conntrack(asked: Program, firewall: Namespace, look: Callable[[], str]) -> str:
    """What `why` prints between two looks of conntrack at a connection that stays quiet.

    Fail unless the time until the path forgets it is between what the two looks show, which are whole seconds.
    """
    for _ in range(ATTEMPTS):
        before = remembered(firewall, asked)
        said = look()
        after = remembered(firewall, asked)
        if after <= before:
            (shown,) = FORGETS.findall(said)
            assert after - 1 <= duration.parse(shown) <= before + 1
            return said
    raise AssertionError("packets pass all the time")


def held_by_its_own_firewall(asked: Program, firewall: Namespace, look: Callable[[], str]) -> None:
    """Fail unless `why` names this host's own firewall, and says the same as conntrack.

    A busy machine may answer so late that the timeout contradicts the age of the last packet: then `why` counts only
    the end of the entry, and keeps to the idle timeout of the path, until another packet.
    """
    for _ in range(ATTEMPTS):
        assert asked.speak() == "answered"
        if "without a packet (this host's own firewall " in (said := held_by_conntrack(asked, firewall, look)):
            assert f"forgets after {duration.span(TIMEOUT)} without" in said
            return
    raise AssertionError(said)


@pytest.mark.parametrize("keepalive", [None, 0, 200], ids=["bare", "late", "safe"])
def test_when_the_path_forgets_is_what_conntrack_says_at_the_firewall(
    rig: Rig, tmp_path: Path, keepalive: int | None
) -> None:
    """`why` looks at this end only, and knows the idle timeout from the configuration."""
    rig.firewall.set_sysctl(ESTABLISHED, TIMEOUT)
    home = Home(tmp_path, CONFIGURATION)
    with program(rig, keepalive=keepalive) as asked:
        assert asked.speak() == "answered"
        said = held_by_conntrack(asked, rig.firewall, lambda: why(rig, home, asked.pid))
        held_by_getsockopt(said, asked)
        assert (timer(rig, asked) == float("inf")) == (keepalive is None)
        verdict = {None: "BARE", 0: "LATE", 200: "SAFE"}[keepalive]
        assert f"\n  {verdict}: " in said


@pytest.mark.parametrize("engine", ["netlink", pytest.param("bpf", marks=since(ITERATOR))])
def test_when_this_hosts_own_firewall_forgets_is_what_conntrack_says_here(engine: str, tmp_path: Path) -> None:
    """It is asked about what is to be explained, however far the cut is, by keepalivectl and by the daemon."""
    home = Home(tmp_path, by(engine, configuration(idle=20, timeout=3600)))
    asking = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with guarded() as rig:
        rig.client.set_sysctl(ESTABLISHED, TIMEOUT)
        with program(rig) as asked:
            held_by_its_own_firewall(asked, rig.client, lambda: why(rig, home, asked.pid))
            with home.daemon(rig.client, through=asking) as daemon:

                def told() -> str:
                    ask(tmp_path / "control", "Scan", patience=SOON)
                    done = rig.client.run(*asking, *CTL, "why", str(asked.pid), f"--state-dir={home.state}")
                    assert (done.returncode, done.stderr) == (0, "")
                    return done.stdout

                held_by_its_own_firewall(asked, rig.client, told)
                daemon.stop()


@pytest.fixture
def probing_often(rig: Rig) -> Iterator[None]:
    """Programs that choose no interval: once it has probed, as on a busy machine, the timer runs for that long."""
    before = rig.client.sysctl(INTERVAL)
    rig.client.set_sysctl(INTERVAL, SHORT)
    yield
    rig.client.set_sysctl(INTERVAL, before)


@pytest.mark.usefixtures("probing_often")
@pytest.mark.parametrize("keepalive", [None, 0, 7], ids=["off", "by the system", "its own"])
def test_what_is_said_is_what_getsockopt_and_ss_say(rig: Rig, tmp_path: Path, keepalive: int | None) -> None:
    """By the system is late here: an idle time of two hours."""
    home = Home(tmp_path, CONFIGURATION)
    with program(rig, keepalive=keepalive) as asked:
        said, shown = while_the_timer_runs(rig, home, asked)
        held_by_getsockopt(said, asked)
        assert (shown == float("inf")) == (keepalive is None)
        origin = f"rig, forgets after {duration.span(TIMEOUT)} without a packet (configured in {home.file})"
        assert f"path         {origin}" in said
        verdict = {None: "BARE", 0: "LATE", 7: "SAFE"}[keepalive]
        assert f"\n  {verdict}: " in said


AGE = re.compile(r"^As of the daemon's last scan, (\S+(?: \d+s)?) ago: packets since then are not counted\.\n", re.M)
CHANGING = re.compile(r"[0-9.]+(h|min|s)\b( [0-9]+s)?| \(Likely, not certain: this was a single scan.\)")
TRACED = (sys.executable, "-X", "importtime", *CTL[1:])

SINGLE = " (Likely, not certain: the peer may send keepalive probes.)"


def test_the_daemon_says_the_same_without_a_scan_of_ones_own(rig: Rig, tmp_path: Path) -> None:
    """By each word that names the connection; and nothing is loaded that only a scan requires."""
    home = Home(tmp_path, configuration(idle=20, timeout=600))
    running = home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={tmp_path}"))
    with program(rig, keepalive=7) as one, program(rig) as other, running as daemon:
        ask(tmp_path / "control", "Scan", patience=SOON)
        for end in ("LOCAL", "REMOTE"):
            words = ("why", one.endpoints[f"KEEPALIVE_{end}_ADDRESS"], f"--state-dir={home.state}")
            of_host = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *TRACED, *words)
            assert not re.search(r"\| +(numpy|pydantic)$", of_host.stderr, re.MULTILINE)
            ports = {int(port) for port in re.findall(r":([0-9]+) -> ", of_host.stdout)}
            assert ports == {each.endpoints["KEEPALIVE_LOCAL_PORT"] for each in (one, other)}, of_host
        for asked in (one, other):
            local = asked.endpoints["KEEPALIVE_LOCAL_ADDRESS"], asked.endpoints["KEEPALIVE_LOCAL_PORT"]
            shown = rig.client.run("ss", "-tneH", "sport", "=", f":{local[1]}").stdout
            (cookie,) = re.findall(r"sk:[0-9a-f]+", shown)
            for target in (asked.pid, cookie, f"{asked.name}[{asked.pid}]", f"{local[0]}:{local[1]}"):
                words = ("why", str(target), f"--state-dir={home.state}")
                done = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *TRACED, *words)
                assert done.returncode == 0, done.stderr
                assert not re.search(r"\| +(numpy|pydantic)$", done.stderr, re.MULTILINE)
                held_by_getsockopt(done.stdout, asked)
                if target not in (asked.pid, cookie):
                    continue  # a scan also finds the far end, in a namespace that this daemon does not watch
                plain = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *CTL, *words, "--json").stdout
                (its,), (scanned,) = (
                    json.loads(each)["connections"] for each in (plain, why(rig, home, target, "--json"))
                )
                assert (its.keys(), its["stands"]) == (scanned.keys(), scanned["stands"])
                by_scan = why(rig, home, target)
                assert (SINGLE in by_scan) == ("BARE" in by_scan)
                assert AGE.search(done.stdout)
                assert CHANGING.sub("", AGE.sub("", done.stdout)) == CHANGING.sub("", by_scan.replace(SINGLE, ""))
        daemon.stop()


def test_how_old_the_figures_of_a_daemon_are_is_said(rig: Rig, tmp_path: Path) -> None:
    """A probe that left after its last scan is not in them: then they say that it is due."""
    slow = configuration(idle=20, timeout=600).replace(f'"{SCAN}s"', '"5min"').replace(f'"{WARNING_TIME}s"', '"5min"')
    home = Home(tmp_path, slow)
    running = home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={tmp_path}"))
    with running as daemon, program(rig, keepalive=8) as asked:
        before = time.monotonic()
        ask(tmp_path / "control", "Scan", patience=SOON)
        after = time.monotonic()
        wait_for(lambda: acknowledged(rig, asked) > 5.0)
        wait_for(lambda: acknowledged(rig, asked) < 5.0)  # the probe has left, and was answered
        words = ("why", str(asked.pid), f"--state-dir={home.state}")
        least = time.monotonic() - after
        said = rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *CTL, *words).stdout
        plain = json.loads(rig.client.run("env", f"RUNTIME_DIRECTORY={tmp_path}", *CTL, *words, "--json").stdout)
        most = time.monotonic() - before
        (age,) = AGE.findall(said)
        assert least - 0.5 <= duration.parse(age) <= most + 0.5
        assert "keepalive in 0s" in said
        assert least <= plain["age"] <= most
        daemon.stop()


def test_beside_a_daemon_its_configuration_counts(rig: Rig, tmp_path: Path) -> None:
    """Also where a command looks for itself: the timeouts of another file would make it promise what does not hold."""
    home = Home(tmp_path, CONFIGURATION)
    state = f"--state-dir={home.state}"
    with program(rig) as asked, home.daemon(rig.client) as daemon:
        assert re.search(r"^rig +4min ", rig.client.run(*CTL, "paths", state).stdout, re.MULTILINE)
        assert " rig" in rig.client.run(*CTL, "sockets", "--scan", "--each", state).stdout
        armed = rig.client.run(*CTL, "arm", str(asked.pid), "--dry-run", state).stdout
        (idle,) = re.findall(r"would be armed[^:]*: idle ([^,]+)", armed)
        assert duration.parse(idle) < TIMEOUT
        daemon.stop()


def test_who_set_the_systems_settings_is_said(rig: Rig, tmp_path: Path) -> None:
    home = Home(tmp_path, CONFIGURATION)
    before = ", ".join(
        f"{name} {rig.client.sysctl(key)}" for name, key in (("idle", TIME), ("interval", INTERVAL), ("probes", PROBES))
    )
    with home.daemon(rig.client) as daemon, program(rig, keepalive=7) as asked:
        said = why(rig, home, asked.pid)
        assert f"idle 7s (its program's); interval {TUNED[INTERVAL]}s, probes {TUNED[PROBES]} (the system's)" in said
        expected = before.replace("idle 7200", "idle 2h").replace("interval 75", "interval 1min 15s")
        assert f"the daemon has set the system's; before: {expected}" in said
        daemon.stop()


def test_fix_makes_a_connection_at_risk_safe_in_one_command(rig: Rig, tmp_path: Path) -> None:
    """Without touching the program; and the connection outlives the firewall's timeout twice."""
    home = Home(tmp_path, CONFIGURATION)
    with program(rig) as asked, home.daemon(rig.client) as daemon:
        assert asked.speak() == "answered"
        before, reloaded, after = why(rig, home, asked.pid, "--fix", "--yes").partition("Reloaded the daemon.")
        assert reloaded
        assert "1 connection: 1 bare" in before
        assert "1 connection: 1 safe" in after
        assert "armed by keepaliveD" in after
        held_by_getsockopt(after, asked)
        assert daemon.heard("armed", **asked.endpoints)
        assert timer(rig, asked) <= duration.parse(SPANS.findall(after)[0]) + 1
        daemon.stop()


def test_fix_says_what_the_page_says_and_is_as_sure_of_it(rig: Rig, tmp_path: Path) -> None:
    """A scan of its own cannot know whether the peer probes; before and after, it is the daemon who is asked."""
    home = Home(tmp_path, CONFIGURATION)
    asking = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with program(rig) as asked, home.daemon(rig.client, through=asking) as daemon:
        ask(tmp_path / "control", "Scan", patience=SOON)
        words = (*asking, *CTL, "why", str(asked.pid), f"--state-dir={home.state}")
        page = rig.client.run(*words)
        assert (page.returncode, page.stderr, "Likely" in page.stdout) == (0, "", False)
        done = rig.client.run(*words, "--fix", "--yes")
        assert done.returncode == 0, done
        before, _, after = done.stdout.partition("Reloaded the daemon.")
        assert ("1 connection: 1 bare" in before, "1 connection: 1 safe" in after) == (True, True), done.stdout
        for said in (before, after):
            assert ("Likely" in said, bool(AGE.search(said))) == (False, True), said
        held_by_getsockopt(after, asked)
        daemon.stop()


def test_a_death_below_the_guess_is_named_and_fix_writes_what_it_supports(tmp_path: Path) -> None:
    """SAFE by a guess is no promise: that connection dies. After --fix with its death on record the next one lives.

    The rule that --fix wrote first is not enough; the daemon's own timeout stays a guess until a person says otherwise.
    """
    without_path, _, _ = configuration("apply = false", 'arm = "observe"').partition("[[path]]")
    home = Home(tmp_path, without_path)
    asking = ("env", f"RUNTIME_DIRECTORY={tmp_path}")

    def fix(rig: Rig, asked: Program) -> tuple[int, str, str]:
        words = ("why", str(asked.pid), "--fix", "--yes", f"--state-dir={home.state}")
        done = rig.client.run(*asking, *CTL, *words)
        return done.returncode, " ".join(done.stdout.split()), done.stderr

    def page(rig: Rig, asked: Program) -> str:
        said = rig.client.run(*asking, *CTL, "why", str(asked.pid), f"--state-dir={home.state}")
        assert (said.returncode, said.stderr) == (0, "")
        return " ".join(said.stdout.split())

    with Rig("reject") as rig, home.daemon(rig.client, through=asking) as daemon:
        with program(rig) as asked:
            assert asked.speak() == "answered"
            status, said, doubt = fix(rig, asked)
            assert status == os.EX_TEMPFAIL, said + doubt
            assert "SAFE if the path's timeout is 4min, which is a guess: " in said
            assert "SAFE holds only if the path's timeout is 4min, which is a guess: find it with" in doubt
        for _ in range(ATTEMPTS):  # on a busy machine the silence may be so long that half of it is too long
            with program(rig) as asked:
                assert asked.speak() == "answered"
                time.sleep(FIREWALL + 2)
                assert asked.speak() == "ECONNRESET"
                died = daemon.expect("died", **asked.endpoints)
            if died["KEEPALIVE_SILENCE_SEC"] < 1.8 * FIREWALL:
                break
        with program(rig) as asked:
            daemon.expect("armed", **asked.endpoints)
            ask(tmp_path / "control", "Scan", patience=SOON)
            assert "SAFE only if the path's timeout is 4min, which is contradicted (" in (said := page(rig, asked))
            assert f"see keepalivectl deaths {asked.endpoints['KEEPALIVE_REMOTE_ADDRESS']}" in said
            status, said, doubt = fix(rig, asked)
            assert status == 0, said + doubt
            assert doubt.startswith(f"warning: watch.warn_before: {WARNING_TIME}s is too long for 1 path: ")
            assert doubt.count("\n") == 1
            assert "by a guess" not in said.partition("Reloaded the daemon.")[2]  # it may be cut by now
            assert f"(configured in {tmp_path}/config.d/00-why-to_" in said
        with program(rig) as asked:
            daemon.expect("armed", **asked.endpoints)
            time.sleep(2 * FIREWALL + 1)
            assert asked.speak() == "answered"
        daemon.stop()


def test_after_an_arming_the_page_shows_the_new_forecast(rig: Rig) -> None:
    """To root, who may have the daemon scan; to others it says that the verdict is older than what stands there."""
    slow = arming(ENABLE, timeout=600).replace(f'"{SCAN}s"', '"5min"').replace(f'"{WARNING_TIME}s"', '"5min"')
    with reachable_directory() as directory, program(rig) as asked:
        home = Home(directory, slow.replace("namespaces =", 'readers = "everyone"\n        namespaces ='))
        with home.daemon(rig.client, through=("env", f"RUNTIME_DIRECTORY={directory}")) as daemon:
            daemon.expect("armed", **asked.endpoints)
            end = f"{asked.endpoints['KEEPALIVE_LOCAL_ADDRESS']}:{asked.endpoints['KEEPALIVE_LOCAL_PORT']}"
            words = (*CTL, "why", end, f"--state-dir={home.state}")
            reading = (
                "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search",
            )  # of a checkout of root's alone
            nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading)
            said = rig.client.run("env", f"RUNTIME_DIRECTORY={directory}", *nobody, *words)
            assert "  BARE at the last scan; its keepalive was changed since: see the next scan.\n" in said.stdout
            said = rig.client.run("env", f"RUNTIME_DIRECTORY={directory}", *words)
            assert "1 connection: 1 safe" in said.stdout
            assert timer(rig, asked) <= duration.parse(SPANS.findall(said.stdout)[0]) + 1
            daemon.stop()


def test_who_is_asked_is_found_by_its_end_and_by_its_cookie(rig: Rig, tmp_path: Path) -> None:
    """As ss(8) shows both."""
    home = Home(tmp_path, CONFIGURATION)
    with program(rig) as asked:
        port = asked.endpoints["KEEPALIVE_LOCAL_PORT"]
        shown = rig.client.run("ss", "-tneH", "sport", "=", f":{port}").stdout
        (cookie,) = re.findall(r"sk:[0-9a-f]+", shown)
        for target in (f"{asked.endpoints['KEEPALIVE_LOCAL_ADDRESS']}:{port}", cookie):
            assert f":{port} -> {SERVER[socket.AF_INET]}:" in why(rig, home, target)


def test_without_privilege_it_says_what_it_cannot_know(rig: Rig, tmp_path: Path) -> None:
    home = Home(tmp_path, CONFIGURATION)
    tmp_path.chmod(0o755)
    with program(rig, keepalive=7) as asked:
        end = f"{asked.endpoints['KEEPALIVE_LOCAL_ADDRESS']}:{asked.endpoints['KEEPALIVE_LOCAL_PORT']}"
        bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
        done = rig.client.run(*bare, *CTL, "why", end, f"--config={home.file}", f"--state-dir={home.state}")
        assert (done.returncode, done.stderr) == (0, "")
        assert "keepalive    on; who set it is not known: requires root" in done.stdout
