"""The errors that `handle.result()` raises for a job that has not succeeded, beside `Refused` and `TimeoutError`."""

from __future__ import annotations

from ftjm.runtime.errors import FtjmError


# Same name as ftjm.core.records.events.JobFailed: users catch the error by the name of the event that it stands for.
class JobFailed(FtjmError):
    """The job has failed, and will not be tried again.

    Example:
        try:
            handle.result()
        except ftjm.JobFailed as error:
            print(error.reason, error.exit_code)
    """

    def __init__(self, job: str, reason: str, error: str, exit_code: int) -> None:
        lines = error.strip().splitlines()
        shown = f"{reason}: {lines[-1]}" if lines else reason
        super().__init__(f"{job} to succeed", shown, f"see `ftjm history {job}` and `ftjm logs {job}`")
        self.job = job
        self.reason = reason
        """The reason: EXCEPTION, EXIT_CODE, SIGNAL, TIMEOUT, RESULT_REFUSED, WORKER_LOST, DEADLINE or another of these
        names."""
        self.error = error
        """The error's text; the traceback of a Python task."""
        self.exit_code = exit_code


# Same name as ftjm.core.records.events.JobCancelled: users catch the error by the name of the event that it stands for.
class JobCancelled(FtjmError):
    """The job was cancelled. `reason` is the text that was given for it."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(f"{job} to succeed", f"cancelled ({reason})", f"run it again with `ftjm rerun {job}`")
        self.job = job
        self.reason = reason
