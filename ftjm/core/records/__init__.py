"""The records of the log and of the topics beside it."""
