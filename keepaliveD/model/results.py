"""What became of sockets that were to be armed or disarmed."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from keepaliveD.model.connections import Connection
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.keepalive import NONE, Own, SocketKeepalive


class ArmingResult(enum.Enum):
    """What became of a socket that was to be armed or disarmed."""

    ARMED = "armed"
    ARMED_AT_CONNECT = "armed at connect"
    DISARMED = "disarmed"  # the earlier settings were put back
    WOULD_BE_ARMED = "would be armed"  # a dry run
    LEFT_BY_RULE = "left alone by rule"
    ALREADY_SET = "already set"
    KEPT_BY_PROGRAM = "kept by program"
    TOO_LONG = "too long for path"
    ONLY_DATA = "path counts only data"  # keepalive would not keep it
    USER_TIMEOUT = "user timeout too short"
    PROBE_UNANSWERED = "keepalive probe unanswered"  # its timer would be restarted, which may end it at once
    CHANGED_SINCE = "changed since"
    CHANGED_MEANWHILE = "changed meanwhile"
    CLOSED = "closed"
    SUBFLOW = "MPTCP subflow"  # its program has no descriptor of it
    OWNER_NOT_FOUND = "owner not found"
    OWNER_NOT_VISIBLE = "owner not visible"  # there are processes that we may not look into
    NOT_PERMITTED = "not permitted"
    OTHER_USER_NAMESPACE = "owner in another user namespace"
    FAILED = "failed"


# Worth another try: a socket may be on its way from one process to another, its program may just be setting it,
# its peer may answer, and a failure may pass.
RETRIED = frozenset(
    {
        ArmingResult.CLOSED,
        ArmingResult.OWNER_NOT_FOUND,
        ArmingResult.OWNER_NOT_VISIBLE,
        ArmingResult.CHANGED_MEANWHILE,
        ArmingResult.PROBE_UNANSWERED,
        ArmingResult.FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Arming:
    """What became of these sockets, of all the same: `after` is what stands there now, as it was read back."""

    connections: Sequence[Connection]
    result: ArmingResult
    before: SocketKeepalive | None = None
    after: SocketKeepalive | None = None


class Armed(NamedTuple):
    """How sockets were armed: what they had before, and what was set.

    Of the three times before, they took those that were `inherited` from their network namespace.
    """

    before: SocketKeepalive
    after: SocketKeepalive
    inherited: Own = NONE


class PutBack(NamedTuple):
    """What was put back into sockets at the end of a daemon, and which of the three times no program has chosen.

    The kernel takes these for the socket's own: nobody can make one follow its network namespace again.
    """

    stands: SocketKeepalive
    inherited: Own


class Mark(enum.Enum):
    """What else the arming record says of a socket."""

    LEFT_ALONE = "-"  # it was put back, or somebody else has set it since
    NOT_ARMED = "0"  # it was not set after all: the same as no word about it


Entry = Armed | PutBack | Mark  # of a socket in the arming record
