"""A timeout that is configured too long: connections die sooner, and the daemon says what it presumably is."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from socket import AF_INET, AF_INET6

from tests.kernel.test_rescue import all_speak
from tests.support.patience import SOON
from tests.support.processes import CTL, Home, configuration, program
from tests.support.rig import Rig
from tests.support.versions import ITERATOR, since

pytestmark = since(ITERATOR)

FORGETTING = "net.netfilter.nf_conntrack_tcp_timeout_established"
FORGETS = 12  # seconds, the firewall
BELIEVED = 100  # seconds, the configuration
SHORT = 3  # seconds of a silence that every connection survives
TALKERS = 5  # at each of two addresses


def die(rig: Rig) -> float:
    """Connections to two peers survive short silences, and die in a longer one; return how long a short one may be."""
    with contextlib.ExitStack() as stack:
        rig.firewall.set_sysctl(FORGETTING, round(SOON))  # a busy machine takes longer than FORGETS to start them
        talkers = [stack.enter_context(program(rig, family)) for family in (AF_INET, AF_INET6) for _ in range(TALKERS)]
        assert set(all_speak(talkers)) == {"answered"}
        began = time.monotonic()
        for _ in range(2):
            time.sleep(SHORT)  # the silence is what is counted
            assert set(all_speak(talkers)) == {"answered"}
        survived = time.monotonic() - began
        rig.firewall.set_sysctl(FORGETTING, FORGETS)
        assert set(all_speak(talkers)) == {"answered"}
        time.sleep(FORGETS + 2)
        assert set(all_speak(talkers)) == {"ECONNRESET"}
        return survived


def test_deaths_in_shorter_silences_are_advised_about(tmp_path: Path) -> None:
    """At two peers, by connections that had survived still shorter ones."""
    home = Home(tmp_path, configuration("apply = false", 'arm = "observe"', timeout=BELIEVED))
    asking = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with Rig("reject", timeout=FORGETS) as rig, home.daemon(rig.client, through=asking) as daemon:
        survived = die(rig)
        advice = daemon.expect("advice", SOON)
        assert advice["KEEPALIVE_PATH"] == "rig"
        assert advice["KEEPALIVE_COUNT"] >= 3
        assert "is probably too long: " in advice["MESSAGE"]
        assert "until then" not in advice["MESSAGE"]
        assert 1 <= advice["KEEPALIVE_AT_LEAST_SEC"] <= max(survived, FORGETS)
        assert FORGETS <= advice["KEEPALIVE_AT_MOST_SEC"] < BELIEVED
        listed = rig.client.run(*asking, *CTL, "paths", "--json", home.options[1])
        assert f"as of the last scan by tcp-keepalived (process {daemon.pid}), " in listed.stderr
        (path,) = [one for one in json.loads(listed.stdout) if one["name"] == "rig"]
        assert path["ended"] == 2 * TALKERS
        assert path["timeout"] == BELIEVED
        assert path["advice"].startswith("path rig: idle timeout 1min 40s ")


def test_deaths_shorten_a_guess_and_the_next_warning_says_that_it_is_evidence(tmp_path: Path) -> None:
    """By the guess the warning would come after minutes."""
    without_path, _, _ = configuration("apply = false", 'arm = "observe"').partition("[[path]]")
    with Rig("reject", timeout=FORGETS) as rig, Home(tmp_path, without_path).daemon(rig.client) as daemon:
        die(rig)
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
