"""The client of the log: it sends commands and receives their answers."""
