"""The base of every room: settings, errors, logs, time, locks, child processes."""
