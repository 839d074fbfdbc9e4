"""`python -m ftjm.lab.demo`: the program that `scripts/demo` runs after its setup."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftjm.lab.demo.scenario import run_demo
from ftjm.lab.demo.screen import Screen
from ftjm.runtime.errors import FtjmError

JOBS_MIN = 200


def main() -> int:
    """Run the demonstration. Return the exit status: 0 if all checks passed."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Runs real jobs on a cluster, and kills processes of it midway."
    )
    parser.add_argument(
        "--jobs", type=int, default=0, help="number of jobs (default: one for each file of the library, and 300 tasks)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new directory for the data, which is kept")
    options = parser.parse_args()
    if 0 < options.jobs < JOBS_MIN:
        parser.error(
            f"expected at least {JOBS_MIN} jobs, so that processes can be killed midway, but found {options.jobs}"
        )
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts its background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("FTJM_")]:
        # Settings for a cluster of the user must not apply to this one.
        del os.environ[name]
    with Screen() as screen:
        try:
            with _folder(options.keep) as folder:
                passed = run_demo(folder, options.jobs, screen)
            _show_next_steps(options.keep, screen)
        except KeyboardInterrupt:
            screen.step("interrupted: everything is stopped")
            return 130
        except FtjmError as error:
            sys.stderr.write(
                f"error: expected {error.expected}\n       found {error.found}\n       to do: {error.todo}\n"
            )
            return error.exit_code
    return 0 if passed else 1


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Make the directory for the data, and change to it, so that an `ftjm.toml` of the user is not found.

    A temporary directory is removed at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="ftjm-demo-")) if keep is None else keep.absolute()
    if keep is not None:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise FtjmError("a directory that does not exist yet", str(folder), "give --keep another one") from None
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _show_next_steps(keep: Path | None, screen: Screen) -> None:
    screen.blank()
    screen.note("next         . .venv/bin/activate && ftjm up: a cluster that stays; then, in another terminal,")
    screen.note("             ftjm submit --wait -- echo hello, and ftjm history JOB; README.md has the rest")
    screen.note("             and over HTTP: http://127.0.0.1:8484/openapi.json describes the API")
    if keep is None:
        screen.note("             (nothing is left running, and the data is removed; scripts/demo --keep DIR keeps it)")
    else:
        screen.note(f"kept         {keep.absolute()}: ftjm up --data-dir {keep.absolute()} continues with it")


if __name__ == "__main__":
    sys.exit(main())
