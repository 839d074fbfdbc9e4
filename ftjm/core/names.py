"""The rules for names: of queues, jobs, workers, labels and tasks.

This is a file of its own, because the process that all Python tasks are forked from imports it and needs no more.
"""

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
NAME_TEXT = "1 to 128 of A-Z a-z 0-9 . _ - starting with a letter or a digit"
"""What a name is, for errors: "expected …"."""
TASK_NAME_CHARACTERS_MAX = 300


def is_name(text: str) -> bool:
    """Whether `text` may name a queue, a job, a worker or a label."""
    return NAME.match(text) is not None


def is_task_name(text: str) -> bool:
    """Whether `text` may name a Python task."""
    return text.isprintable() and 0 < len(text) <= TASK_NAME_CHARACTERS_MAX
