"""`python -m ftjm.demo`: what `scripts/demo` runs once it is set up."""

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

from ftjm.demo.screen import Screen
from ftjm.demo.story import play
from ftjm.errors import FtjmError

JOBS_MIN = 200


def main() -> int:
    """Run the demonstration; 0 if its check passed."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="A real batch on a cluster that is broken midway."
    )
    parser.add_argument("--jobs", type=int, default=0, help="how many; by default one for each file, and 300 tasks")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new directory for the data, which then stays")
    options = parser.parse_args()
    if 0 < options.jobs < JOBS_MIN:
        parser.error(f"expected at least {JOBS_MIN} jobs, so that there is a midway, but found {options.jobs}")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts its background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("FTJM_")]:
        # Settings of a cluster of the user's have no say in this one.
        del os.environ[name]
    with Screen() as screen:
        try:
            with _folder(options.keep) as folder:
                passed = play(folder, options.jobs, screen)
            _tell_where_next(options.keep, screen)
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
    """Where the data goes; a temporary one is removed. An `ftjm.toml` of the user's is not seen from there."""
    folder = Path(tempfile.mkdtemp(prefix="ftjm-demo-")) if keep is None else keep.absolute()
    if keep is not None:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise FtjmError("a directory that is not there yet", str(folder), "give --keep another one") from None
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _tell_where_next(keep: Path | None, screen: Screen) -> None:
    screen.blank()
    screen.note("next         . .venv/bin/activate && ftjm up: a cluster that stays; then, in another terminal,")
    screen.note("             ftjm submit --wait -- echo hello, and ftjm history JOB; README.md has the rest")
    screen.note("             and over HTTP: http://127.0.0.1:8484/openapi.json says what may be asked")
    if keep is None:
        screen.note("             (nothing runs any more, and the data is gone; scripts/demo --keep DIR keeps it)")
    else:
        screen.note(f"kept         {keep.absolute()}: ftjm up --data-dir {keep.absolute()} goes on with it")


if __name__ == "__main__":
    sys.exit(main())
