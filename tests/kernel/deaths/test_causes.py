"""Ends that are made on purpose, all at once on a real kernel, and what each of them is called."""

from __future__ import annotations

from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6

import pytest

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.played import Played, Verdict, matrix, play
from tests.kernel.deaths.rig import FIREWALL
from tests.kernel.deaths.scenes import SCENES

RIGHT = 0.95  # of the ends that one host can tell apart
RIGHT_WITH_LOSS = 0.9
LOSS = 3  # packets of a hundred
CLOSED_BEFORE = (scenes.forgotten_and_dropped_close, scenes.closed_while_data_was_on_its_way)


@pytest.fixture(scope="module")
def played() -> Played:
    """All scenes, played once for all tests."""
    return play(SCENES)


def test_there_are_forty_causes_of_ends_at_least() -> None:
    assert len({scene.play for scene in SCENES}) >= 40


def test_every_end_is_seen_once(played: Played) -> None:
    """Or it is counted: a kernel may not run the programs for each one (linux/deaths/unseen.py).

    It does not count those whose program had closed them before: these are made once more.
    """
    assert not played.failures
    seen = {(scene.name, end): len(played.of(scene, end)) for scene in SCENES for end in scene.truth}
    assert {key: count for key, count in seen.items() if count > 1} == {}
    unseen = [key for key, count in seen.items() if count == 0]
    closed = [scene for scene in SCENES if (scene.name, "client") in unseen and scene.play in CLOSED_BEFORE]
    assert not closed or all(play(closed).of(scene, "client") for scene in closed)
    for which, lost in played.lost.items():
        open_ones = [name for name, end in unseen if end == which and name not in {scene.name for scene in closed}]
        assert len(open_ones) <= lost, open_ones


def test_the_cause_of_an_end_is_right(played: Played) -> None:
    told = [each for each in played.verdicts if each.can_be_told]
    wrong = [each for each in told if not each.is_right]
    assert len(wrong) <= (1 - RIGHT) * len(told), "\n".join([matrix(played, SCENES), *map(str, wrong)])


def test_of_causes_that_cannot_be_told_apart_each_is_named(played: Played) -> None:
    assert [str(each) for each in played.verdicts if not (each.can_be_told or each.is_right)] == []


def test_what_is_called_certain_is_right(played: Played) -> None:
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []


def test_a_path_that_loses_packets_makes_no_verdict_falsely_certain_and_few_wrong() -> None:
    """The packet that would tell may be lost, too, and then it is another end: a reset that never came."""
    played = play(SCENES, loss=LOSS)
    wrong = [str(each) for each in played.verdicts if not each.is_right]
    assert len(wrong) <= (1 - RIGHT_WITH_LOSS) * len(played.verdicts), "\n".join(wrong)
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []


MAY_BE_UNSEEN = Cause.PEER_NOT_READING  # where no probe was lost, only what comes after the end shows it
LEAVES_NOTHING = (  # it looks like an ordinary close, or it takes away what the kernel knew of the connection
    scenes.program_is_killed_when_all_is_read,
    scenes.program_takes_more_memory_than_there_is,
    scenes.program_aborts,
    scenes.program_disconnects_with_unread_data,
)


def test_netlink_names_every_cause_that_packets_tell_and_nothing_else() -> None:
    """It tells of no error, nor of a user timeout: what cannot be told apart without these is named beside."""
    played = play(SCENES, "netlink")
    assert not played.failures
    certain = [scene for scene in SCENES if scene.truth.get("client", MAY_BE_UNSEEN) is not MAY_BE_UNSEEN]
    seen = {scene.name: len(played.of(scene, "client")) for scene in certain}
    told = {scene.name: int(scene.play not in LEAVES_NOTHING) for scene in certain}
    assert seen == told, matrix(played, SCENES, "netlink")
    wrong = [str(each) for each in played.verdicts if each.truth not in each.candidates]
    assert len(wrong) <= (1 - RIGHT) * len(played.verdicts), "\n".join([matrix(played, SCENES, "netlink"), *wrong])
    assert [str(each) for each in played.verdicts if each.is_falsely_certain] == []


def test_the_router_that_says_that_packets_do_not_arrive_is_named(played: Played) -> None:
    said = {
        each.scene.name: (_address(each, "router"), int(each.row["icmp_type"]), int(each.row["icmp_code"]))
        for each in played.verdicts
        if each.truth is Cause.UNREACHABLE
    }
    true = {
        "router_finds_no_host": (FIREWALL[AF_INET], 3, 1),
        "router_prohibits_it": (FIREWALL[AF_INET], 3, 13),
        "router_finds_no_host_ipv6": (FIREWALL[AF_INET6], 1, 3),
    }
    assert said
    assert said.items() <= true.items()


def _address(verdict: Verdict, which: str) -> str:
    whole = int(verdict.row[f"{which}_high"]) << 64 | int(verdict.row[f"{which}_low"])
    address = IPv6Address(whole)
    return str(address.ipv4_mapped or address)
