"""What may be a name. In a file of its own, since the process that all Python tasks are forked from needs no more."""

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
TASK_NAME_CHARACTERS_MAX = 300


def is_name(text: str) -> bool:
    """Whether `text` may name a queue, a job, a worker or a label."""
    return NAME.match(text) is not None


def is_task_name(text: str) -> bool:
    """Whether `text` may name a Python task."""
    return text.isprintable() and 0 < len(text) <= TASK_NAME_CHARACTERS_MAX
