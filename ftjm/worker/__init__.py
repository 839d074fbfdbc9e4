"""The worker: a supervisor that holds the log connection and the lease, a guard that is the parent of all attempts."""
