"""Benchmarks: what this machine makes of the engine, beside what it makes of a bare pipeline."""
