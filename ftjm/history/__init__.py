"""Reads the log: single jobs, the state at a past offset or time, the rows of stores in words, and trimmed records."""
