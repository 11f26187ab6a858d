"""All kinds of torture."""

from tests.torture import configurations, faults, kills, pauses, records, sockets

KINDS = (kills.KIND, sockets.KIND, records.KIND, faults.KIND, pauses.KIND, configurations.KIND)
