"""`ftjm chaos`: a cluster of its own is broken by a seed while it works, and its history judged."""
