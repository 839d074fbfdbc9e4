"""Tasks for the tests of the SDK."""

import ftjm
import ftjm.testing

CALLS: list[tuple[str, int]] = []
"""Task and attempt, as they ran."""


@ftjm.task(queue="thumbnails", max_attempts=3, timeout="2m")
def resize(path: str, width: int = 100) -> dict[str, object]:
    return {"path": path, "width": width}


@ftjm.task(backoff={"initial": "10m", "factor": 1})
def succeeds_at(attempt: int) -> int:
    now = ftjm.attempt().attempt
    CALLS.append(("succeeds_at", now))
    if now < attempt:
        raise ValueError(f"not before attempt {attempt}")
    return now


@ftjm.task(worker_losses_max=5)
def survives(losses: int) -> list[object]:
    losses_so_far = ftjm.attempt().checkpoint or []
    ftjm.checkpoint([*losses_so_far, len(losses_so_far)])
    ftjm.progress(len(losses_so_far) / 10, f"{len(losses_so_far)} losses")
    if len(losses_so_far) < losses:
        raise ftjm.testing.WorkerLost
    return list(losses_so_far)


@ftjm.task
def gives(what: str) -> object:
    return {"set": {1}, "nan": float("nan"), "none": None, "tuple": (1, 2)}[what]
