"""The pure core: what a job is, what may happen to it, and what follows. No clock, no chance, no I/O."""
