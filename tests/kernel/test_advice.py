"""A timeout that is configured too long: connections die sooner, and the daemon says what it presumably is."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from socket import AF_INET, AF_INET6

from keepaliveD.policy.timeouts.moments import MOMENT
from tests.kernel.test_rescue import all_speak
from tests.support.patience import SOON
from tests.support.processes import CTL, Daemon, Home, Program, configuration, program
from tests.support.rig import Rig
from tests.support.versions import ITERATOR, since

pytestmark = since(ITERATOR)

FORGETTING = "net.netfilter.nf_conntrack_tcp_timeout_established"
FORGETS = 12  # seconds, the firewall
BELIEVED = 100  # seconds, the configuration
SHORT = 3  # seconds of a silence that every connection survives
TALKERS = 5  # at each of two addresses
TIMES = 3  # that connections die, at moments of their own


def die(rig: Rig) -> None:
    """Connections to two peers survive short silences, and die in a longer one; so do others after a while."""
    for each in range(TIMES):
        if each:
            time.sleep(MOMENT)  # what one event may explain counts once
        die_once(rig)


def die_once(rig: Rig) -> None:
    with contextlib.ExitStack() as stack:
        rig.firewall.set_sysctl(FORGETTING, round(SOON))  # a busy machine takes longer than FORGETS to start them
        talkers: list[Program] = []
        for family in (AF_INET, AF_INET6) * TALKERS:
            talkers.append(stack.enter_context(program(rig, family)))
            all_speak(talkers)  # or they survive a longer silence than FORGETS
        rig.firewall.set_sysctl(FORGETTING, FORGETS)
        assert set(all_speak(talkers)) == {"answered"}
        for _ in range(2):
            time.sleep(SHORT)  # the silence is what is counted
            assert set(all_speak(talkers)) == {"answered"}
        time.sleep(FORGETS + 2)
        assert set(all_speak(talkers)) == {"ECONNRESET"}


def test_deaths_in_shorter_silences_are_advised_about_and_shorten_a_guess(tmp_path: Path) -> None:
    """At two peers, by connections that had survived still shorter ones; two daemons see them.

    One has a path configured. By the other one's guess the warning would come after minutes.
    """
    with_path = configuration("apply = false", 'arm = "observe"', timeout=BELIEVED)
    homes = [tmp_path / name for name in ("configured", "guessed")]
    for each in homes:
        each.mkdir()
    asking = ("env", f"RUNTIME_DIRECTORY={homes[0]}")
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(Rig("reject", timeout=FORGETS))
        home, guessing = Home(homes[0], with_path), Home(homes[1], with_path.partition("[[path]]")[0])
        daemon = stack.enter_context(home.daemon(rig.client, through=asking))
        other = stack.enter_context(guessing.daemon(rig.client))
        die(rig)
        advice = daemon.expect("advice", MOMENT + SOON)
        assert advice["KEEPALIVE_PATH"] == "rig"
        assert advice["KEEPALIVE_COUNT"] == TIMES
        assert "is probably too long: " in advice["MESSAGE"]
        assert "until then" not in advice["MESSAGE"]
        assert 1 <= advice["KEEPALIVE_AT_LEAST_SEC"] <= FORGETS
        assert FORGETS <= advice["KEEPALIVE_AT_MOST_SEC"] < BELIEVED
        listed = rig.client.run(*asking, *CTL, "paths", "--json", home.options[1])
        assert f"as of the last scan by tcp-keepalived (process {daemon.pid}), " in listed.stderr
        (path,) = [one for one in json.loads(listed.stdout) if one["name"] == "rig"]
        assert path["ended"] == TIMES * 2 * TALKERS
        assert path["timeout"] == BELIEVED
        assert path["advice"].startswith("path rig: idle timeout 1min 40s ")
        expect_a_warning_by_evidence(other, rig)


def expect_a_warning_by_evidence(daemon: Daemon, rig: Rig) -> None:
    advice = daemon.expect("advice", SOON)
    assert "(guess: watch.default_timeout) is probably too long: " in advice["MESSAGE"]
    assert advice["MESSAGE"].endswith("until then verdicts follow it, and arming keeps to 4min")
    for _ in range(TALKERS):  # a busy machine may look at one only when its time is over
        with program(rig) as quiet:
            warnings = daemon.heard("bare", within=2 * FORGETS, **quiet.endpoints)
        if warnings:
            break
    warning = warnings[0]
    assert warning["KEEPALIVE_TIMEOUT_SOURCE"] == "evidence"
    assert 1 <= warning["KEEPALIVE_TIMEOUT_SEC"] <= FORGETS
    assert "evidence: " in warning["MESSAGE"]
