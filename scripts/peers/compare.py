"""Runs the workload of `workload.py` on each system in turn, and prints one table.

Rounds alternate: each round runs every system once, so that a busy minute of the machine does not fall on one of them.
The table has the median of each figure. A system that cannot be had or fails is left out, which one line says.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from scripts.peers.install import RABBITMQ_SERVER, Missing, System, environment, python_of, root_of

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = {
    "ftjm_kafka": System(),
    "celery_redis": System(("celery[redis]", "psutil"), "redis-server", "usr/bin/redis-server"),
    "dramatiq_rabbitmq": System(("dramatiq[rabbitmq]", "psutil"), "rabbitmq-server", RABBITMQ_SERVER),
}
"""Each system by the name of its file, ours first."""
OURS = "ftjm_kafka"
COMPARED = {"drain": "drain_{}_per_s", "end to end": "end_to_end_{}_per_s"}
HEAD = (
    "system",
    "submit/s",
    "drain/s, 1 and 2 workers",
    "end to end/s, 1 and 2",
    "p50 / p99 ms",
    "idle, % of a core",
    "memory MB",
    "an acknowledged job is in",
    "stores",
)

Result = Mapping[str, Any]
"""What `workload.py` prints."""


def run(cache: Path, name: str, jobs: int, seconds: float) -> Result:
    """Install a system if need be, and run the workload on it.

    Raises:
        Missing: the system cannot be had, or fails.
    """
    system = SYSTEMS[name]
    python, root = python_of(cache, name, system), root_of(cache, system)
    sizes = ["--jobs", str(jobs), "--seconds", str(seconds)]
    command = [str(python), "-m", "scripts.peers.workload", f"scripts.peers.{name}", *sizes]
    variables = {**os.environ, **environment(root), "PYTHONPATH": str(ROOT), "FTJM_LOG_LEVEL": "error"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    try:
        output, errors = process.communicate()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reaches it, too: it stops the servers that it has started
        raise
    if process.returncode:
        raise Missing((errors.strip().splitlines() or ["it wrote nothing"])[-1])
    result: Result = json.loads(output.splitlines()[-1])
    return result


def medians(results: Sequence[Result]) -> Result:
    """Return the result of several rounds: of each figure the median."""
    figures = {name: median(each["figures"][name] for each in results) for name in results[0]["figures"]}
    return {**results[0], "figures": figures}


def table(results: Mapping[str, Result]) -> str:
    """Return the results as a table in Markdown, and how ours compare with the others'."""
    rows = [HEAD, ["---"] * len(HEAD), *(_row(result) for result in results.values())]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if OURS in results:
        lines += ["", *(_compared(results[OURS], each) for name, each in results.items() if name != OURS)]
    return "\n".join(lines)


def _row(result: Result) -> list[str]:
    found = result["figures"]
    return [
        f"{result['title']} {result['version']}",
        f"{found['submit_per_s']:,.0f}",
        *(" / ".join(f"{found[name.format(n)]:,.0f}" for n in (1, 2)) for name in COMPARED.values()),
        f"{found['p50_ms']:.1f} / {found['p99_ms']:.1f}",
        f"{found['idle_percent']:.1f}",
        f"{found['memory_mb']:,.0f}",
        result["flushes"],
        result["stores"],
    ]


def _compared(ours: Result, other: Result) -> str:
    def ratio(name: str) -> str:
        return f"{ours['figures'][name] / other['figures'][name]:.2f}"

    parts = [f"{words} {ratio(name.format(1))} / {ratio(name.format(2))}" for words, name in COMPARED.items()]
    return f"{ours['title']} against {other['title']}: {', '.join(parts)}"


def main() -> int:
    """Run what the command line asks for. Return 1 if no system could be measured."""
    parser = argparse.ArgumentParser(prog="scripts/bench-peers", description=__doc__.partition("\n")[0])
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ftjm-peers"
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of each phase (default: 10000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="time of latency, and of the idle system (20)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each system runs (1)")
    parser.add_argument("--only", action="append", choices=list(SYSTEMS), help="run this system; may be repeated")
    parser.add_argument("--cache", type=Path, default=default, help=f"where others are installed ({default})")
    parser.add_argument("--json", type=Path, help="write all results into this file, too")
    options = parser.parse_args()
    found: dict[str, list[Result]] = {}
    missing: dict[str, str] = {}
    for number in range(options.rounds):
        for name in options.only or SYSTEMS:
            if name in missing:
                continue
            sys.stderr.write(f"round {number + 1} of {options.rounds}: {name}\n")
            try:
                found.setdefault(name, []).append(run(options.cache, name, options.jobs, options.seconds))
            except Missing as problem:
                missing[name] = str(problem)
                sys.stderr.write(f"{name} is left out: {problem}\n")
    measured = {name: medians(results) for name, results in found.items() if results and name not in missing}
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if measured:
        sys.stdout.write(table(measured) + "\n")
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
