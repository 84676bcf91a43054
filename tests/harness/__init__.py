"""Faults against a whole platform of real processes, under load, by a seeded plan; then the history checker judges."""
