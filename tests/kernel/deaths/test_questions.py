"""The questions that people ask when a connection is gone: each made on purpose, and what is answered.

Where one host cannot tell, the answer names all that it may have been.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from keepaliveD.model.causes import Cause
from keepaliveD.model.deaths import Reset
from keepaliveD.policy.autopsy.deaths import CERTAIN
from tests.kernel.deaths import scenes
from tests.kernel.deaths.played import Played, Verdict, play
from tests.kernel.deaths.scenes import SCENES, End, Play

ASKED = (
    scenes.peer_gives_up_because_our_acknowledgements_are_lost,
    scenes.peer_gives_up_because_its_data_is_lost,
    scenes.peer_closes_both_directions_while_data_is_on_its_way,
    scenes.forgotten_and_rejected_data,
    scenes.forgotten_and_dropped_data,
    scenes.path_dies_while_busy,
    scenes.path_dies_under_keepalive,
    scenes.peer_lost_its_state_and_gets_data,
    scenes.user_goes_away_with_his_machine,
    scenes.forgotten_by_the_first_router,
    scenes.forgotten_by_the_last_router,
)


@pytest.fixture(scope="module")
def played() -> Played:
    """All that is asked about, over IPv4 and IPv6; once more where a very busy machine did not show an end."""
    asked = [scene for scene in SCENES if scene.play in ASKED]
    for _ in range(3):
        played = play(asked)
        if all(played.of(scene, end) for scene in asked for end in scene.truth):
            break
    return played


def answers(played: Played, what: Callable[[Play], None], end: End = "client") -> list[Verdict]:
    """What that end was called, in all families; it is never called certain where it may have been another."""
    assert not played.failures
    found = [each for each in played.verdicts if (each.scene.play, each.end) == (what, end)]
    assert len(found) == sum(scene.play == what for scene in SCENES)
    assert not [each for each in found if len(each.candidates) > 1 and each.confidence >= CERTAIN]
    return found


def test_did_the_peer_give_up_because_our_acknowledgements_were_lost(played: Played) -> None:
    for answer in answers(played, scenes.peer_gives_up_because_our_acknowledgements_are_lost):
        assert {Cause.PEER_GAVE_UP, Cause.PEER_ABORTED} <= set(answer.candidates), answer


def test_did_the_peer_give_up_because_its_data_was_lost(played: Played) -> None:
    for answer in answers(played, scenes.peer_gives_up_because_its_data_is_lost):
        assert {Cause.PEER_GAVE_UP, Cause.UNKNOWN_TO_PEER} <= set(answer.candidates), answer


def test_did_the_peer_close_both_directions_while_our_data_was_on_the_way(played: Played) -> None:
    for answer in answers(played, scenes.peer_closes_both_directions_while_data_is_on_its_way):
        assert answer.cause == Cause.PEER_ABORTED, answer


def test_was_it_a_firewall_between_us_that_resets(played: Played) -> None:
    for answer in answers(played, scenes.forgotten_and_rejected_data):
        assert (answer.cause, answer.hop) == (Cause.MIDDLEBOX_IDLE, 2), answer


def test_was_it_a_firewall_between_us_that_drops(played: Played) -> None:
    for answer in answers(played, scenes.forgotten_and_dropped_data):
        assert answer.candidates == (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED), answer


@pytest.mark.parametrize("what", [scenes.path_dies_while_busy, scenes.path_dies_under_keepalive])
def test_did_our_own_retransmissions_hit_their_limit(what: Callable[[Play], None], played: Played) -> None:
    """The program is told ETIMEDOUT, and not that it was reset."""
    for answer in answers(played, what):
        assert answer.cause == Cause.PATH_DIED, answer
        assert answer.row["error"] == errno.ETIMEDOUT
        assert answer.row["reset"] == Reset.NONE.value


def test_did_the_peers_machine_go_down_and_lose_its_state(played: Played) -> None:
    for answer in answers(played, scenes.peer_lost_its_state_and_gets_data):
        assert {Cause.UNKNOWN_TO_PEER, Cause.PEER_RESTARTED} <= set(answer.candidates), answer


def test_did_a_user_simply_go_away(played: Played) -> None:
    for answer in answers(played, scenes.user_goes_away_with_his_machine, "server"):
        assert {Cause.PATH_DIED, Cause.SILENT_AFTER_IDLE} <= set(answer.candidates), answer


@pytest.mark.parametrize(
    ("what", "hop"),
    [
        (scenes.forgotten_by_the_first_router, 1),
        (scenes.forgotten_and_rejected_data, 2),
        (scenes.forgotten_by_the_last_router, 3),
    ],
)
def test_which_device_on_the_way_was_it(what: Callable[[Play], None], hop: int, played: Played) -> None:
    for answer in answers(played, what):
        assert (answer.cause, answer.hop) == (Cause.MIDDLEBOX_IDLE, hop), answer
