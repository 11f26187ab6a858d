"""Further ends: those of connections of which one direction is closed, or is just being closed."""

from __future__ import annotations

import functools
from socket import AF_INET6

from keepaliveD.model.causes import Cause
from tests.kernel.deaths import scenes
from tests.kernel.deaths.rig import vanish
from tests.kernel.deaths.scenes import HOLD, Play, Scene, stay_quiet

CLOSING: list[Scene] = []
scene = functools.partial(scenes.scene, among=CLOSING)


# A FIN alone, after a silence


@scene(Cause.MIDDLEBOX_IDLE)
@scene(Cause.MIDDLEBOX_IDLE, family=AF_INET6)
def forgotten_and_rejected_close(play: Play) -> None:
    client, _ = play.open()
    play.fail("reject_there", "reject_back")
    stay_quiet()
    client.close()


@scene(Cause.MIDDLEBOX_IDLE)
def forgotten_and_rejected_when_its_program_is_killed(play: Play) -> None:
    client, _ = play.open()
    program = play.hold(client, *HOLD)
    play.fail("reject_there", "reject_back")
    stay_quiet()
    program.kill()


@scene(Cause.UNKNOWN_TO_PEER)
def peer_lost_its_state_and_gets_a_fin(play: Play) -> None:
    client, server = play.open()
    vanish(server)
    stay_quiet()
    client.close()
