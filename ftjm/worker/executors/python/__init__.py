"""Python tasks: the zygote, and the processes that it forks and that run one task after the other."""
