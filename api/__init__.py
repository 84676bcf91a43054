"""The edge: HTTP in, commands and definitions out, answers from the read tables."""
