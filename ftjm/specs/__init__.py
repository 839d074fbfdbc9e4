"""Validates users' input: the fields of a job, in files, flags, HTTP and Python."""
