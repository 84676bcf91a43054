"""For those who work on the project: what it is made of, and whether holes are known in that."""
