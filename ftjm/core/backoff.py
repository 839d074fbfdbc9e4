"""Backoff: how long a job waits before its next attempt."""

from hashlib import blake2b

from ftjm.core.state.model import JobSpec

LOSS_BACKOFF_MS = 1_000
LOSS_BACKOFF_MAX_MS = 60_000


def backoff_ms(spec: JobSpec, key: str, run: int, failures: int) -> int:
    """The delay after the `failures`-th failure of a run, ms: exponential with full jitter.

    "Full jitter" draws uniformly from 0 to the exponential bound (Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015). The draw is a hash of the job, the run and the number of failures, so that every process
    computes the same.
    """
    # An exponent of 64 exceeds any bound that is in milliseconds; beyond it a float overflows.
    bound = min(spec.backoff_max_ms, spec.backoff_ms * spec.backoff_factor ** min(failures - 1, 64))
    draw = blake2b(f"{key}/{run}/{failures}".encode(), digest_size=8).digest()
    return int(bound * int.from_bytes(draw) / 2**64)


def loss_backoff_ms(losses: int) -> int:
    """The delay after the `losses`-th loss of a worker in a run, ms.

    There is none after the first, since the job is not to blame. Then it doubles, so that a job that kills its workers
    does not take the next one at once.
    """
    if losses <= 1:
        return 0
    return int(min(LOSS_BACKOFF_MAX_MS, LOSS_BACKOFF_MS * 2 ** min(losses - 2, 16)))
