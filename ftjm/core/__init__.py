"""The pure core: the records, a partition's state, decisions about commands, and the effect of events. No clock, no
random values, no I/O."""
