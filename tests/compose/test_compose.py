"""The container files agree with the command line, the settings and the embedded Kafka."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ftjm.cli import app
from ftjm.local import jars
from ftjm.local.broker_settings import Node, server_properties
from ftjm.runtime.config import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "ftjm"}
BROKERS = {name: service for name, service in SERVICES.items() if name not in OURS}

OF_ONE_MACHINE = {
    "listeners",
    "advertised.listeners",
    "controller.quorum.voters",
    "log.dirs",
    "node.id",
}
"""Settings that name hosts and folders."""


def known_settings() -> set[str]:
    return {f"FTJM_{name.upper()}" for name in Settings.model_fields}


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of this name in the Dockerfile, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def test_there_are_brokers_schedulers_workers_and_an_api():
    roles = [service["command"][0] for service in OURS.values()]
    found = len(BROKERS), *(roles.count(role) for role in ("scheduler", "worker", "api"))
    assert found == (3, 2, 2, 1)


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name):
    command: Any = typer.main.get_command(app)
    words = list(OURS[name]["command"])
    # A group may also be a verb: `worker` beside `worker list`.
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    options = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options
    # Parsing validates the values.
    with command.make_context(name, words, resilient_parsing=False) as context:
        assert context.params


@pytest.mark.parametrize("name", OURS)
def test_every_setting_exists_and_fits(name):
    environment = dict(OURS[name]["environment"])
    # The API's secret is in no settings file: the user who starts the containers gives it.
    assert environment.pop("FTJM_API_TOKEN", "${FTJM_API_TOKEN:?").startswith("${FTJM_API_TOKEN:?")
    assert set(environment) <= known_settings()
    values = {variable.removeprefix("FTJM_").lower(): value for variable, value in environment.items()}
    settings = Settings(**values)
    assert settings.bootstrap == ",".join(f"{broker}:9092" for broker in BROKERS)


@pytest.mark.parametrize("name", BROKERS)
def test_brokers_have_the_settings_of_the_embedded_kafka(name):
    environment = dict(BROKERS[name]["environment"])
    assert environment.pop("CLUSTER_ID")
    ours = server_properties(Node(0, 3, 9092, Path("/data")))
    found = {
        variable.removeprefix("KAFKA_").lower().replace("_", "."): value for variable, value in environment.items()
    }
    assert set(found) <= set(ours)
    for setting in set(found) - OF_ONE_MACHINE:
        assert found[setting] == ours[setting], setting
    assert found["advertised.listeners"] == f"PLAINTEXT://{name}:9092"
    assert f"{found['node.id']}@{name}:9093" in found["controller.quorum.voters"]


def test_brokers_have_different_ids():
    assert len({broker["environment"]["KAFKA_NODE_ID"] for broker in BROKERS.values()}) == 3


def test_images_have_tested_versions():
    assert {broker["image"] for broker in BROKERS.values()} == {f"apache/kafka:{jars.KAFKA_VERSION}"}
    assert all(re.match(r"python:3\.\d+-slim-\w+( AS build)?$", image) for image in instructions("FROM"))


def test_the_host_reaches_the_api_and_nothing_else():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:8484:8484"]}
    assert "FTJM_API_TOKEN" in OURS["api"]["environment"], "beyond loopback a token is required"


def test_each_process_keeps_its_own_data():
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert sorted(mounts) == sorted(COMPOSE["volumes"])


def test_services_depend_on_existing_services():
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_containers_have_few_privileges(name):
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "user" not in service


def test_the_image_runs_without_root_under_an_init():
    [user] = instructions("USER")
    assert int(user) > 0
    assert instructions("ENTRYPOINT") == ['["tini", "--", "ftjm"]']
    assert [context.split("=", 1)[0] for context in instructions("HEALTHCHECK")] == ["--interval"]


def test_copied_files_exist_and_are_sent_to_the_build():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    for arguments in instructions("COPY"):
        if not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch.fnmatch(source.removeprefix("./"), rule) for rule in sent)


def test_the_image_names_settings_that_exist():
    assert set(re.findall(r"FTJM_[A-Z_]+", DOCKERFILE)) <= known_settings()


@pytest.mark.parametrize(
    "command",
    [("hadolint", "compose/Dockerfile"), ("yamllint", "--strict", "-c", "compose/.yamllint", "compose/compose.yaml")],
    ids=lambda command: command[0],
)
def test_linters_find_nothing(command):
    program = Path(sysconfig.get_path("scripts"), command[0])
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
