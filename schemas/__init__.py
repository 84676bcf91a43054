"""The vocabulary: definitions, commands, events, the run and its fold. Pure: no I/O, no clock, nothing of ours imported."""
