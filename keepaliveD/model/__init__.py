"""Values, units and names: the language of every other room.

Durations are seconds.
Instants are seconds of CLOCK_BOOTTIME.
"""
