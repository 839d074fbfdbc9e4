"""The example of queues in git: its files are valid, and its workflow calls verbs and options that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest
import typer
import yaml

from ftjm import cli
from ftjm.specs.resource_files import read_resources

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "resources"
WORKFLOW = FOLDER / ".github" / "workflows" / "queues.yaml"
PAGES = [FOLDER / "README.md", ROOT / "docs" / "queues-as-files.md", WORKFLOW]


def called(text: str) -> list[str]:
    """The command lines of ftjm in a page or a workflow."""
    return re.findall(r"(?:^|[`\s])(ftjm (?:lint|plan|apply|delete) -[^|#`\n]*)", text)


def test_the_files_of_the_example_are_valid(monkeypatch):
    monkeypatch.chdir(FOLDER)
    found = read_resources(["queues"])
    assert [one.resource.name for one in found.resources] == [
        *(
            "workdays",
            "mail-nights",
            "etl",
            "etl-reports",
            "mail",
            "etl/move-reports-2025",
            "etl/nightly",
            "mail/report",
        ),
    ]
    assert all(one.resource.labels["managed-by"] == "queues-repository" for one in found.resources)
    assert cli.run(["lint", "-f", "queues"]) == 0
    files = [f"queues/{name}.yaml" for name in ("calendar", "etl", "mail", "migration", "nightly", "report")]
    assert read_resources(["."]).files == files, "and no workflow"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_are_shown_exist(page):
    commands = called(page.read_text())
    assert {"lint", "plan", "apply"} <= {shlex.split(command)[1] for command in commands}
    group = typer.main.get_command(cli.app)
    for command in commands:
        _, verb, *options = shlex.split(command.rstrip())
        group.commands[verb].make_context(verb, options)  # type: ignore[attr-defined]  # raises for an unknown option


def test_the_workflow_has_steps_that_run():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    [plan] = [step["run"] for step in steps if "plan" in step.get("run", "")]
    for status, passed in ((0, True), (2, True), (1, False), (130, False)):
        script = plan.replace("ftjm plan", f"sh -c 'exit {status}' plan")
        assert (subprocess.run(["bash", "-e", "-c", script], check=False).returncode == 0) is passed


def test_the_files_are_tidy():
    program = Path(sysconfig.get_path("scripts"), "yamllint")
    command = [str(program), "--strict", "-c", "compose/.yamllint", str(FOLDER / "queues"), str(WORKFLOW)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
