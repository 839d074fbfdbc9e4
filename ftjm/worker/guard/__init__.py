"""The guard: the parent process of all attempts of a worker."""
