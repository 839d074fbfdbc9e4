"""The whole of each kind of resource: the envelope with its `spec`. `resources.py` lists the kinds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftjm.specs import calendar, queue, schedule, window
from ftjm.specs.executors import Fields
from ftjm.specs.metadata import ApiVersion, Metadata, ScheduleMetadata


class QueueResource(Fields):
    """A queue as it is declared: how many of its jobs run at a time, how fast they start, and in which order.

    A queue need not be declared: without a declaration it has no limits, and the default order.
    """

    api_version: ApiVersion = Field(alias="apiVersion", description="The version of this format.")
    kind: Literal["Queue"] = Field(description="The kind of the resource.")
    metadata: Metadata = Field(description="What the queue is called.")
    spec: queue.QueueFields | None = Field(None, description="What its declaration says. Left out: the defaults.")


class ScheduleResource(Fields):
    """A schedule as it is declared: when it makes a job, and which.

    It lives with its queue. Each instant makes one job, `NAME.20261129T013000Z`, whichever scheduler decides.
    """

    api_version: ApiVersion = Field(alias="apiVersion", description="The version of this format.")
    kind: Literal["Schedule"] = Field(description="The kind of the resource.")
    metadata: ScheduleMetadata = Field(description="What the schedule is called.")
    spec: schedule.ScheduleFields = Field(description="What its declaration says.")


class CalendarResource(Fields):
    """A calendar as it is declared: the days on which schedules that name it fire, and windows open.

    Every partition must know it: `ftjm apply` waits until all do.
    """

    api_version: ApiVersion = Field(alias="apiVersion", description="The version of this format.")
    kind: Literal["Calendar"] = Field(description="The kind of the resource.")
    metadata: Metadata = Field(description="What the calendar is called.")
    spec: calendar.CalendarFields | None = Field(None, description="What its declaration says. Left out: every day.")


class WindowResource(Fields):
    """A window as it is declared: when, and on which workers, queues may start jobs.

    What runs when it closes goes on to its end, unless `on_close` says `stop`. Every partition must know
    it: `ftjm apply` waits until all do.
    """

    api_version: ApiVersion = Field(alias="apiVersion", description="The version of this format.")
    kind: Literal["Window"] = Field(description="The kind of the resource.")
    metadata: Metadata = Field(description="What the window is called.")
    spec: window.WindowFields = Field(description="What its declaration says.")
