"""What the daemon survives: kills, damaged records, failing system calls, pauses, configurations made at random."""
