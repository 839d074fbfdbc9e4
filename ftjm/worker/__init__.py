"""The worker: a supervisor that is connected to the log, and a guard that is the parent of all attempts."""
