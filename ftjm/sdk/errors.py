"""How a job may disappoint: what `handle.result()` raises, beside `Refused` and `TimeoutError`."""

from __future__ import annotations

from ftjm.errors import FtjmError


class JobFailed(FtjmError):
    """The job has failed for good."""

    def __init__(self, job: str, reason: str, error: str, exit_code: int) -> None:
        told = error.strip().splitlines()
        shown = f"{reason}: {told[-1]}" if told else reason
        super().__init__(f"{job} to succeed", shown, f"see `ftjm history {job}` and `ftjm logs {job}`")
        self.job = job
        self.reason = reason
        """Such as EXCEPTION, EXIT_CODE, TIMEOUT, RESULT_REFUSED, WORKER_LOST, DEADLINE."""
        self.error = error
        """Of a Python task its traceback."""
        self.exit_code = exit_code


class JobCancelled(FtjmError):
    """The job was cancelled."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(f"{job} to succeed", f"cancelled ({reason})", f"run it again with `ftjm rerun {job}`")
        self.job = job
        self.reason = reason
