"""The scenarios of the executors' contract: each one as a task, as an isolated task, and as a program.

The call is always `{"args": [NAME, ...]}`. A task gets it as its arguments. The program reads it from its standard
input, and writes the scenario's return value to the result file.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ftjm


def echo(text: str) -> int:
    """Return the length of the text."""
    return len(text)


def prints(size: int) -> None:
    """Write to both outputs: `size` bytes and a last line to standard output."""
    print("x" * size + "the end")
    print("an error", file=sys.stderr)


def about() -> dict[str, Any]:
    """Return the attempt's identity and its environment."""
    attempt = ftjm.attempt()
    return {
        "job": attempt.job,
        "run_key": attempt.run_key,
        "attempt": attempt.attempt,
        "checkpoint": attempt.checkpoint,
        "mine": os.environ.get("MINE"),
        "inherited": os.environ.get("INHERITED"),
        "secret": os.environ.get("FTJM_KAFKA_SASL_PASSWORD"),
        "cwd": str(Path.cwd()),
    }


def exits(status: int) -> None:
    """End with this exit status."""
    sys.exit(status)


def kills_itself() -> None:
    """Die by a signal."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def waits(mark: str) -> None:
    """Write the pid, and go on for a long time. SIGTERM has no effect."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).write_text(f"{os.getpid()}\n")
    time.sleep(600)


def cleans_up(mark: str) -> None:
    """Write the pid, run until a stop arrives, and record that it was obeyed."""

    def stop(_number: int, _frame: object) -> None:
        raise ftjm.Stopped

    signal.signal(signal.SIGTERM, stop)
    try:
        Path(mark).write_text(f"{os.getpid()}\n")
        while True:
            time.sleep(0.002)
    except ftjm.Stopped:
        Path(mark).write_text("cleaned up")
        raise


def leaves_a_process(mark: str) -> None:
    """Leave a process of the same group behind."""
    child = subprocess.Popen(["sleep", "600"])
    Path(mark).write_text(f"{child.pid}\n")


def reports_and_fails() -> None:
    """Leave a checkpoint, report progress, and fail."""
    ftjm.checkpoint({"after": ftjm.attempt().checkpoint})
    ftjm.progress(0.5, "half")
    raise RuntimeError("after its checkpoint")


def returns_text(size: int) -> str:
    """Return a text of `size` characters."""
    return "x" * size


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        echo,
        prints,
        about,
        exits,
        kills_itself,
        waits,
        cleans_up,
        leaves_a_process,
        reports_and_fails,
        returns_text,
    )
}


@ftjm.task(name="scenario")
def scenario(name: str, *arguments: Any) -> Any:
    """Run the scenario in a process that is kept."""
    return SCENARIOS[name](*arguments)


@ftjm.task(name="scenario_alone", isolated=True)
def scenario_alone(name: str, *arguments: Any) -> Any:
    """Run the scenario in a process of its own."""
    return SCENARIOS[name](*arguments)


def main() -> None:
    """Run the scenario as a program."""
    name, *arguments = json.load(sys.stdin)["args"]
    value = SCENARIOS[name](*arguments)
    if value is not None:
        Path(os.environ["FTJM_RESULT_FILE"]).write_text(json.dumps(value))


if __name__ == "__main__":
    main()
