"""Benchmarks of the whole platform on this machine; `python -m tests.bench --help`. They measure, they do not judge."""
