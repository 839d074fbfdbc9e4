"""Proof, not product: benchmarks, chaos, the history checker, the demonstration."""
