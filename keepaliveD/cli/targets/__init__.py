"""What a word on the command line means: connections of a process, a unit, an end."""
