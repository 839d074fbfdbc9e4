"""Calendars, windows and cordons, by the command line on a real Kafka, over kills of their home's owner."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.core.state.resources import CLUSTER_KEY
from integration.apis import start_api
from integration.harness import QUEUES, Cluster, Process
from integration.test_limits import violations
from integration.test_metrics import until_ready
from integration.test_operations import job, rows, run, state_of, submit
from integration.waiting import until

QUEUE = QUEUES[0]
HEAD = "apiVersion: ftjm.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: "
KILLS = 3


def document(kind: str, name: str, spec: str) -> str:
    return HEAD.format(kind=kind, name=name) + spec + "\n"


def apply(running: Cluster, *documents: str) -> None:
    Path("resources.yaml").write_text("---\n".join(documents))
    done = run(running.settings, "apply", "-f", "resources.yaml", "--patience", "60s")
    assert done.returncode == 0, done.stderr


def two_schedulers(running: Cluster) -> dict[str, Process]:
    found = {name: running.scheduler(name) for name in ("a", "b")}
    for process in found.values():
        until_ready(process)
    running.until_owners("a", "b")
    return found


def home_owner(running: Cluster, schedulers: dict[str, Process]) -> Process:
    """The scheduler that owns the home of resources."""
    owners = running.until_owners("a", "b")
    return schedulers[owners[partition_for(CLUSTER_KEY, len(owners))]]


def test_a_window_and_its_calendar_are_known_to_all_over_kills_of_the_homes_owner(running: Cluster) -> None:
    schedulers = two_schedulers(running)
    until_ready(running.worker("w", queues=[QUEUE]))
    always = "{effect: deny, cron: '* * * * *', duration: 2m, calendar: days, queues: ['*']}"
    apply(running, document("Window", "freeze", always), document("Calendar", "days", "{time_zone: Europe/Berlin}"))
    shown = rows(running.settings, "window", "describe", "freeze")
    assert (shown["open"], shown["adopted"]) == (True, shown["partitions"])
    submit(running.settings, job("a", queue=QUEUE))
    explained = rows(running.settings, "explain", "--from-log", f"{QUEUE}/a")
    assert explained["reason"] == "Window"
    for kill in range(KILLS):
        home = home_owner(running, schedulers)
        home.kill()
        spec = f"{{time_zone: Europe/Berlin, excluded: [2030-01-0{kill + 1}]}}"
        apply(running, document("Calendar", "days", spec))
        described = rows(running.settings, "calendar", "describe", "days")
        assert described["declaration"]["spec"]["excluded"] == [f"2030-01-0{kill + 1}"]
        assert described["adopted"] == described["partitions"]
        home.start()
        until_ready(home)
    assert state_of(running.settings, "a") == "READY"
    Path("resources.yaml").write_text(document("Window", "freeze", always))
    assert run(running.settings, "delete", "-f", "resources.yaml").returncode == 0
    log = running.until_done([(QUEUE, "a")])
    adopted = [event for event in log.events(e.ResourceAdopted) if isinstance(event, e.ResourceAdopted)]
    assert {event.name for event in adopted} == {"freeze", "days"}
    assert len(log.events(e.ResourceSettled)) == KILLS + 3
    assert violations(log) == []


def test_a_job_is_stopped_when_its_window_closes_and_runs_again_at_the_opening(
    running: Cluster, tmp_path: Path
) -> None:
    """The window is open for the first 20 s of each minute. The first attempt would run for much longer."""
    two_schedulers(running)
    until_ready(running.worker("w", queues=[QUEUE]))
    settings, begun = running.settings, tmp_path / "begun"
    minutely = f"{{cron: '* * * * *', duration: 20s, queues: [{QUEUE}], on_close: stop}}"
    apply(running, document("Window", "day", minutely))
    until(lambda: not rows(settings, "window", "describe", "day")["open"], "the window to close")  # 20 s for the start
    script = f"test -e {begun} || {{ touch {begun}; echo working; sleep 600; }}"
    submit(settings, job("a", script, queue=QUEUE, max_attempts=1, worker_losses_max=0))
    log = running.until_done([(QUEUE, "a")])
    shown = rows(settings, "get", f"{QUEUE}/a")
    assert (shown["state"], shown["attempt"], shown["failures"], shown["worker_losses"]) == ("SUCCEEDED", 2, 0, 0)
    (stopped,) = (event for event in log.events(e.AttemptStopped) if isinstance(event, e.AttemptStopped))
    assert (stopped.attempt, stopped.signal, stopped.stdout) == (1, signal.SIGTERM, b"working\n")
    assert stopped.ended_at % 60_000 >= 20_000, "it was stopped while the window was closed"
    assert run(settings, "logs", f"{QUEUE}/a", "--attempt", "1").stdout == "working\n"
    assert violations(log) == []


def test_a_cordon_holds_over_the_workers_restart_and_a_takeover(running: Cluster) -> None:
    schedulers = two_schedulers(running)
    worker = running.worker("w", queues=[QUEUE])
    until_ready(worker)
    settings = running.settings
    submit(settings, job("long", "sleep 5", queue=QUEUE))
    until(lambda: state_of(settings, "long") == "RUNNING", "long to run")
    assert rows(settings, "worker", "cordon", "w", "--reason", "a fan is broken") == [
        {"worker": "w", "answer": "accepted"}
    ]
    submit(settings, job("a", queue=QUEUE))
    until(lambda: rows(settings, "worker", "list")[0].get("cordoned"), "the cordon to show")
    assert rows(settings, "explain", "--from-log", f"{QUEUE}/a")["reason"] == "NoWorker"
    running.until_done([(QUEUE, "long")])
    worker.kill()
    home_owner(running, schedulers).kill()
    worker.start()
    until_ready(worker)
    time.sleep(3)
    assert state_of(settings, "a") == "READY"
    assert run(settings, "worker", "uncordon", "w").returncode == 0
    log = running.until_done([(QUEUE, "a")])
    until(lambda: len(running.log().events(e.ResourceSettled)) == 2, "all partitions to know it")
    assert violations(log) == []


def test_the_same_over_http(running: Cluster) -> None:
    until_ready(running.scheduler())
    until_ready(running.worker("w", queues=[QUEUE]))
    api = start_api(running)

    def body(kind: str, name: str, **spec: object) -> dict[str, object]:
        return {"apiVersion": "ftjm.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def known(path: str) -> dict[str, Any]:
        found: dict[str, Any] = api.get(path).json
        return found

    def cordoned() -> list[bool]:
        return [one.get("cordoned", False) for one in known("/workers")["workers"]]

    calendar = body("Calendar", "days", time_zone="Europe/Berlin", excluded=["2026-12-25"])
    answer = api.put("/calendars/days?expected_revision=0", calendar)
    assert (answer.status, answer.json["kind"], answer.json["decided"]) == (202, "Calendar", True)
    window = body("Window", "freeze", effect="deny", cron="* * * * *", duration="2m", queues=["*"], calendar="days")
    assert api.put("/windows/freeze", window).status == 202
    # A window that the API does not know yet has no field at all.
    until(lambda: known("/windows/freeze").get("adopted", -1) == running.settings.partitions, "adoption")
    shown = known("/windows/freeze")
    assert (shown["open"], shown["declaration"]["spec"]["queues"]) == (True, ["*"])
    assert [one["calendar"] for one in known("/calendars")["calendars"]] == ["days"]
    assert [one["window"] for one in known("/windows?limit=1")["windows"]] == ["freeze"]
    assert api.put("/calendars/days?expected_revision=0", body("Calendar", "days")).json["code"] == "CONFLICT"
    assert api.delete("/calendars/days").json["code"] == "IN_USE"
    assert api.get("/calendars/other").json["code"] == "UNKNOWN_CALENDAR"
    assert api.put("/windows/freeze", body("Window", "other")).status == 422
    assert api.put("/windows/no%20name", window).status == 422
    assert api.delete("/windows/freeze").status == 202
    assert api.delete("/calendars/days").status == 202
    assert api.post("/workers/w/cordon", {"reason": "a fan is broken"}).status == 202
    until(lambda: cordoned() == [True], "the cordon to show")
    assert api.post("/workers/w/uncordon").status == 202
    until(lambda: cordoned() == [False], "its end to show")
