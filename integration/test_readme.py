"""The README's first task in Python, as it stands there: its files, its commands, its test."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from ftjm.embedded.kafka import EmbeddedKafka
from integration.workers import Site, Worker

README = Path(__file__).parents[1] / "README.md"


def blocks(section: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block of a section."""
    found = re.search(rf"^## {section}\n(.*?)(?=^## )", README.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, f"no section {section} in the README"
    return re.findall(r"```(\w+)\n(.*?)```", found[1], re.DOTALL)


def test_the_first_task_in_python(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    found = blocks("In Python")
    folder = tmp_path / "user"
    for made in (folder, tmp_path / "site"):
        made.mkdir()
    for language, text in found:
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name is not None, text
            (folder / name[1]).write_text(text)
    [commands] = [text for language, text in found if language == "sh"]
    worker, submit = (shlex.split(line, comments=True) for line in commands.splitlines())
    assert (worker[:2], submit) == (["ftjm", "worker"], ["python", "submit.py"])
    with Site.on(kafka, tmp_path / "site") as site:
        os.chdir(folder)
        site.crew.append(Worker(site.settings, "w", ["-m", *worker, "--name", "w"], tmp_path / "w.log"))
        site.crew[0].ready()
        environment = {**os.environ, **site.settings.environment()}
        done = subprocess.run(
            [sys.executable, *submit[1:]], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, "{'path': 'a.png', 'width': 200}\n"), done.stderr
    tested = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_thumbnails.py"]
    done = subprocess.run(tested, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
