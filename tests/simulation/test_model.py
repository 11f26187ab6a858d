"""The model's kernel is held against the real one: the same script, both, compared."""

from __future__ import annotations

import pytest

from tests.simulation.both import Act, Course, Stage, differences, modelled, phase

SECONDS = 40.0
WITHIN = 0.06  # seconds: a busy machine is late
PLAYS = 5
SCRIPTS = {
    "a timer is checked when it fires, and set anew by TCP_KEEPIDLE less what has elapsed": [
        Act(0.0, "here", "interval", 1),
        Act(0.0, "here", "probes", 3),
        Act(0.0, "here", "on", 1),
        Act(0.0, "here", "idle", 3),
        Act(0.5, "here", "send"),
        Act(1.2, "peer", "send"),
        Act(12.0, "here", "idle", 7),
        Act(24.0, "here", "on", 0),
        Act(25.0, "here", "on", 1),
    ],
    "the peer's probes are seen by the counters alone, and come every interval if it is longer": [
        Act(0.0, "peer", "interval", 6),
        Act(0.0, "peer", "on", 1),
        Act(0.0, "peer", "idle", 4),
        Act(0.5, "peer", "send"),
    ],
    "the peer's probes do not move our own timer": [
        Act(0.0, "here", "interval", 5),
        Act(0.0, "here", "on", 1),
        Act(0.0, "here", "idle", 5),
        Act(0.0, "peer", "interval", 2),
        Act(0.0, "peer", "on", 1),
        Act(0.0, "peer", "idle", 2),
        Act(3.0, "here", "send"),
        Act(9.0, "peer", "send"),
    ],
    "SO_KEEPALIVE counts from now, TCP_KEEPIDLE from the last packet": [
        Act(4.0, "here", "interval", 3),
        Act(4.0, "here", "on", 1),
        Act(5.0, "here", "idle", 6),
        Act(14.0, "here", "on", 0),
        Act(15.0, "here", "on", 1),
        Act(23.5, "here", "idle", 2),
    ],
    "probes without an answer end it": [
        Act(0.0, "here", "interval", 1),
        Act(0.0, "here", "probes", 3),
        Act(0.0, "here", "on", 1),
        Act(0.0, "here", "idle", 3),
        Act(8.0, "here", "cut"),
    ],
    "data that is not acknowledged is sent again, later and later, and hides the keepalive timer": [
        Act(0.0, "here", "on", 1),
        Act(0.0, "here", "idle", 10),
        Act(1.0, "here", "send"),
        Act(3.0, "here", "cut"),
        Act(4.0, "here", "send"),
    ],
    "TCP_USER_TIMEOUT ends a connection whose data is not acknowledged": [
        Act(0.0, "here", "user_timeout", 5000),
        Act(3.0, "here", "cut"),
        Act(4.0, "here", "send"),
    ],
    "TCP_USER_TIMEOUT takes the place of the number of probes": [
        Act(0.0, "here", "user_timeout", 8000),
        Act(0.0, "here", "probes", 2),
        Act(0.0, "here", "interval", 1),
        Act(0.0, "here", "on", 1),
        Act(0.0, "here", "idle", 3),
        Act(8.0, "here", "cut"),
    ],
    "data from the peer alone keeps our probes away": [
        Act(0.0, "here", "interval", 1),
        Act(0.0, "here", "on", 1),
        Act(0.0, "here", "idle", 4),
        *(Act(3.0 * turn, "peer", "send") for turn in range(1, 9)),
    ],
}


class Plays:
    """What the real kernel makes of all scripts at once; played again for a script of which it made something else.

    A machine that is late, because it is busy, shows nothing; one that differs each time shows what is wrong.
    """

    def __init__(self) -> None:
        self._played: list[dict[str, Course]] = []

    def differences(self, name: str) -> list[str]:
        """What the model does not do as the kernel in any play."""
        found: list[str] = []
        for number in range(PLAYS):
            if number == len(self._played):
                self._played.append(Stage(SCRIPTS, SECONDS).play())
            real = self._played[number][name]
            assert len(real.readings) > 10
            if not (found := list(differences(real, modelled(real, phase()), WITHIN))):
                break
        return found


@pytest.fixture(scope="module")
def plays() -> Plays:
    """The same plays for all scripts."""
    return Plays()


@pytest.mark.kernel
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_model_does_as_the_kernel_does(plays: Plays, name: str) -> None:
    """Timers, ages, counters, and when probes leave."""
    assert plays.differences(name) == []
