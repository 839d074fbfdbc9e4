"""The executors by name, and the defaults of their jobs. An executor carries out the attempts of jobs;
`JobSpec.executor` names it.

This is the one place where the names are written. Every other file imports them from here, and a test compares what
each place knows of: the schemas of `specs`, the workers' registry, `ftjm.testing` and the documents of jobs.
"""

from collections.abc import Mapping
from typing import Any

COMMAND = "command"
"""Runs a program."""
PYTHON = "python"
"""Calls a Python task."""
EXECUTORS = (COMMAND, PYTHON)
"""All executors, in the order in which error messages list them."""
OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = {PYTHON: {"max_attempts": 3}}
"""Fields of `JobSpec` in which an executor's jobs have another default than `JobSpec`."""
