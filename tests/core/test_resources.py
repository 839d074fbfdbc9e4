"""Resources that every partition must know: declared at home, told, adopted, settled, told again where that failed."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.decide import resources as decided
from ftjm.core.decide.handlers import home_partition
from ftjm.core.evolve import resources as evolved
from ftjm.core.evolve.resources import ASK_AGAIN_MS, TELL_AGAIN_MS, TELL_AGAIN_MS_MAX
from ftjm.core.limits import RESOURCES_MAX
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import FIRST_LEVEL
from ftjm.core.state.calendars import AdoptedCalendar, CalendarSpec
from ftjm.core.state.resources import CordonSpec, ResourceSpec, resource_key
from ftjm.core.state.windows import WindowSpec
from ftjm.engine.told_commands import told_command
from tests.core.resource_story import CALENDAR, CORDON, WINDOW, WORK_DAYS, Partitions, alone, apply, of, work_through
from tests.core.story import NOW, Story, like

KEY = "Calendar/work"


def lagging(partitions: Partitions, key: str = KEY) -> list[int]:
    adoption = partitions.at_home.state.adoption(key)
    return adoption.lagging if adoption else []


# -- at home


def test_a_resource_holds_at_home_at_once_and_is_told_to_every_other_partition():
    cluster = Partitions()
    cluster.when(apply("work", WORK_DAYS, labels={"team": "web"}, actor="ada"))
    cluster.at_home.then(
        like(
            e.ResourceApplied,
            name="work",
            revision=1,
            spec=of(WORK_DAYS),
            partitions=3,
            home=cluster.home,
        )
    )
    assert cluster.at_home.state.calendar("work") == AdoptedCalendar(1, WORK_DAYS)
    assert lagging(cluster) == cluster.others
    assert [m.partition for m in cluster.at_home.messages] == cluster.others


def test_every_partition_adopts_it_and_tells_the_home_until_it_is_settled():
    cluster = Partitions()
    cluster.when(apply("work", WORK_DAYS))
    assert cluster.deliver() == 4
    assert all(story.state.calendar("work") == AdoptedCalendar(1, WORK_DAYS) for story in cluster.stories)
    assert lagging(cluster) == []
    cluster.at_home.then(
        like(e.AdoptionConfirmed, revision=1, partition=cluster.others[-1]), like(e.ResourceSettled, revision=1)
    ).has_timers()


def test_in_a_cluster_of_one_partition_it_is_settled_at_once():
    alone().when(apply("work", WORK_DAYS)).then(like(e.ResourceApplied), like(e.ResourceSettled, revision=1)).when(
        c.DeleteResource(kind=CALENDAR, name="work")
    ).then(like(e.ResourceDeleted, revision=2), like(e.ResourceSettled, revision=2)).has_timers()


def test_the_same_again_changes_nothing_whatever_revision_its_sender_expects():
    alone().when(apply("work", WORK_DAYS)).when(apply("work", WORK_DAYS, expected_revision=7)).then(
        like(e.ResourceUnchanged, revision=1)
    )
    alone().when(c.DeleteResource(kind=CALENDAR, name="work", expected_revision=7)).then(
        like(e.ResourceUnchanged, revision=0)
    )


def test_a_change_meanwhile_is_a_conflict():
    story = alone().when(apply("work", WORK_DAYS))
    story.when(apply("work", CalendarSpec(), expected_revision=0)).refused("CONFLICT", "calendar", "revision 1")
    story.when(c.DeleteResource(kind=CALENDAR, name="work", expected_revision=9)).refused("CONFLICT")
    story.when(apply("work", CalendarSpec(), expected_revision=1)).then(
        like(e.ResourceApplied, revision=2), like(e.ResourceSettled)
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (apply("x", CalendarSpec("Europe/Berlni")), ("time_zone", "Europe/Berlni")),
        (apply("x", CalendarSpec(included=["2026-02-30"])), ("included", "2026-02-30")),
        (apply("x", CalendarSpec(excluded=["25.12.2026"])), ("excluded", "25.12.2026")),
        (apply("x", CalendarSpec(included=["2026-12-24"], excluded=["2026-12-24"])), ("2026-12-24", "both")),
        (apply("x", WindowSpec("0 8 30 2 *", 3_600_000)), ("cron", "never due")),
        (apply("x", WindowSpec("0 8 * *", 3_600_000)), ("cron", "expected")),
        (apply("x", WindowSpec("0 8 * * *", 3_600_000, time_zone="Mars")), ("time_zone", "Mars")),
        (apply("x", WORK_DAYS, labels={"a b": "c"}), ("labels",)),
        (c.ApplyResource(kind=CALENDAR, name="x", spec=of(CordonSpec())), ("expected that of one Calendar",)),
        (c.ApplyResource(kind=CALENDAR, name="x", spec=ResourceSpec()), ("expected that of one Calendar",)),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(command, words):
    alone().when(command).refused("INVALID", *words)


def test_a_window_that_never_opens_on_a_day_of_its_calendar_is_refused():
    story = alone().when(apply("work", WORK_DAYS))
    story.when(apply("x", WindowSpec("0 8 * * sat", 3_600_000, time_zone="Europe/Berlin", calendar="work"))).refused(
        "INVALID", "never due on a day of the calendar work"
    )


def test_a_window_needs_its_calendar_and_a_calendar_that_is_used_is_not_deleted():
    window = WindowSpec("0 8 * * *", 3_600_000, calendar="work")
    story = alone().when(apply("day", window)).refused("UNKNOWN_CALENDAR", "work")
    story.when(apply("work", WORK_DAYS)).when(apply("day", window))
    story.when(c.DeleteResource(kind=CALENDAR, name="work")).refused("IN_USE", "day")
    story.when(c.DeleteResource(kind=WINDOW, name="day"))
    story.when(c.DeleteResource(kind=CALENDAR, name="work")).then(like(e.ResourceDeleted), like(e.ResourceSettled))


def test_there_are_at_most_so_many():
    known = [
        e.ResourceApplied(
            kind=CORDON, name=f"w{n}", revision=n + 1, spec=of(CordonSpec()), labels={}, partitions=1, home=0, at=NOW
        )
        for n in range(RESOURCES_MAX)
    ]
    story = alone().evolve(*known)
    story.when(apply("more", CordonSpec())).refused("TOO_MANY", str(RESOURCES_MAX))
    story.when(apply("w0", CordonSpec("broken fan"))).then(like(e.ResourceApplied), like(e.ResourceSettled))


def test_a_deletion_is_adopted_too_and_leaves_no_row():
    cluster = Partitions()
    cluster.when(apply("work", WORK_DAYS))
    cluster.deliver()
    cluster.when(c.DeleteResource(kind=CALENDAR, name="work"))
    assert lagging(cluster) == cluster.others
    cluster.deliver()
    assert all(story.state.resource(KEY) is None for story in cluster.stories)
    assert cluster.at_home.state.adoption(KEY) is None


def test_what_is_told_is_the_newest_revision_and_an_old_confirmation_does_not_count():
    cluster = Partitions(2)
    (other,) = cluster.others
    cluster.when(apply("work", CalendarSpec()))
    cluster.when(apply("work", WORK_DAYS))
    cluster.at_home.when(
        c.ConfirmAdoption(kind=CALENDAR, name="work", revision=1, partition=other),
        policy=cluster.policies[cluster.home],
    ).then(like(e.ResourceUnchanged))
    assert cluster.deliver() == 4
    assert cluster.stories[other].state.calendar("work") == AdoptedCalendar(2, WORK_DAYS)


# -- many partitions


def test_many_partitions_are_told_in_slices(monkeypatch):
    monkeypatch.setattr(evolved, "TOLD_AT_ONCE_MAX", 2)
    monkeypatch.setattr(decided, "PARTITIONS_MAX", 3)
    cluster = Partitions(9)
    cluster.when(apply("work", CalendarSpec()))
    assert [m.partition for m in cluster.at_home.messages] == cluster.others[:2]
    assert (4, KEY) in cluster.at_home.state.processes()
    cluster.when(apply("work", WORK_DAYS))  # it begins anew
    work_through(cluster)
    cluster.deliver()
    assert all(story.state.calendar("work") == AdoptedCalendar(2, WORK_DAYS) for story in cluster.stories)
    assert lagging(cluster) == []
    cluster.at_home.has_timers()


def test_a_process_ends_with_the_last_confirmation(monkeypatch):
    monkeypatch.setattr(evolved, "TOLD_AT_ONCE_MAX", 1)
    cluster = Partitions(3)
    cluster.when(apply("work", WORK_DAYS))
    for partition in cluster.others:
        confirmation = c.ConfirmAdoption(kind=CALENDAR, name="work", revision=1, partition=partition)
        cluster.when(confirmation)
    assert (4, KEY) not in cluster.at_home.state.processes()


# -- what is lost


def test_partitions_that_lag_are_told_again_with_growing_pauses():
    cluster = Partitions()
    cluster.when(apply("work", WORK_DAYS))
    cluster.deliver(lose=True)
    now, pause = NOW, TELL_AGAIN_MS
    for _ in range(10):
        now += pause
        cluster.when_due(now)
        assert cluster.deliver(lose=True) == 2
        pause = min(2 * pause, TELL_AGAIN_MS_MAX)
    cluster.when_due(now + pause)
    cluster.deliver()
    assert lagging(cluster) == []


def test_a_confirmation_that_is_lost_is_made_again():
    cluster = Partitions(2)
    cluster.when(apply("work", WORK_DAYS))
    (other,) = cluster.others
    (message,) = cluster.at_home.messages
    cluster._deliver(cluster.home, message)
    cluster.taken[cluster.home] = 1
    cluster.deliver(lose=True)
    assert lagging(cluster) == [other]
    cluster.when_due(NOW + TELL_AGAIN_MS)
    cluster.deliver()
    assert lagging(cluster) == []


def test_a_gap_in_the_numbers_lets_a_partition_ask_for_everything():
    cluster = Partitions(2)
    (other,) = cluster.others
    cluster.when(apply("work", WORK_DAYS))
    cluster.deliver(lose=True)
    cluster.when(apply("w1", CordonSpec()))
    cluster.deliver()
    story = cluster.stories[other]
    assert story.state.peer(cluster.home).ask_at == NOW + ASK_AGAIN_MS
    work_through(cluster)
    cluster.deliver()
    assert story.state.calendar("work") == AdoptedCalendar(1, WORK_DAYS)
    assert story.state.peer(cluster.home).ask_at == 0
    assert lagging(cluster) == []
    story.has_timers()


def test_a_question_that_is_lost_is_asked_again():
    cluster = Partitions(2)
    (other,) = cluster.others
    cluster.when(apply("work", WORK_DAYS))
    cluster.deliver(lose=True)
    cluster.when(apply("w1", CordonSpec()))
    (message,) = cluster.at_home.messages
    cluster._deliver(cluster.home, message)
    cluster.taken[cluster.home] = 2
    cluster.deliver(lose=True)
    cluster.when_due(NOW + ASK_AGAIN_MS)
    cluster.deliver()
    work_through(cluster)
    cluster.deliver()
    assert cluster.stories[other].state.calendar("work") == AdoptedCalendar(1, WORK_DAYS)
    cluster.stories[other].has_timers()


def test_a_partition_that_has_lost_its_tail_is_told_everything_in_slices(monkeypatch):
    monkeypatch.setattr(decided, "RESOURCES_TOLD_MAX", 2)
    cluster = Partitions(2)
    (other,) = cluster.others
    for n in range(5):
        cluster.when(apply(f"w{n}", CordonSpec()))
    cluster.deliver()
    empty = Partitions(2)
    cluster.stories[other], cluster.taken[other] = empty.stories[other], 0
    cluster.when(apply("w5", CordonSpec()))
    cluster.deliver()
    for _ in range(3):
        work_through(cluster)
        cluster.deliver()
    assert sorted(cluster.stories[other].state.cordons()) == [f"w{n}" for n in range(6)]
    assert all(lagging(cluster, f"Cordon/w{n}") == [] for n in range(6))


def test_what_the_home_has_lost_is_dropped_and_what_it_says_is_taken_whatever_its_revision():
    cluster = Partitions(2)
    (other,) = cluster.others
    cluster.when(apply("first", CordonSpec()))
    cluster.when(apply("w", CordonSpec("one")))
    cluster.when(apply("w", CordonSpec("two")))
    cluster.when(apply("gone", CordonSpec()))
    cluster.deliver()
    # The home's log loses all but the first two.
    lost = Partitions(2)
    lost.when(apply("first", CordonSpec()))
    lost.when(apply("w", CordonSpec("one")))
    cluster.stories[cluster.home] = lost.at_home
    cluster.taken[cluster.home] = 2
    cluster.when(apply("new", CordonSpec()))  # its number was given out before
    cluster.deliver()
    work_through(cluster)
    cluster.deliver()
    known = cluster.stories[other].state.cordons()
    assert {name: row.spec.cordon[0].reason for name, row in known.items()} == {"first": "", "w": "one", "new": ""}
    cluster.stories[other].has_timers()


def test_of_two_declarations_with_one_revision_the_later_is_taken():
    story = Partitions(2)
    (other,) = story.others
    about: dict[str, Any] = {"kind": CORDON, "name": "w", "home": story.home}
    adopter, policy = story.stories[other], story.policies[other]
    adopter.when(c.AdoptResource(**about, revision=5, spec=of(CordonSpec("one"))), policy=policy)
    adopter.when(c.AdoptResource(**about, revision=5, spec=of(CordonSpec("two"))), policy=policy).then(
        like(e.ResourceAdopted, revision=5)
    )
    adopter.when(c.AdoptResource(**about, revision=4, spec=of(CordonSpec("old"))), policy=policy).then(
        like(e.ResourceConfirmed, revision=4)
    )
    adopter.when(c.AdoptResource(**about, revision=5, spec=of(CordonSpec("two"))), policy=policy).then(
        like(e.ResourceConfirmed, revision=5)
    )


def test_a_deletion_of_what_a_partition_never_knew_is_confirmed():
    cluster = Partitions(2)
    cluster.when(apply("w", CordonSpec()))
    cluster.when(c.DeleteResource(kind=CORDON, name="w"))
    cluster.deliver()
    assert cluster.at_home.state.adoption("Cordon/w") is None


def test_a_message_about_what_is_deleted_everywhere_keeps_its_number():
    cluster = Partitions(2)
    cluster.when(apply("w", CordonSpec()))
    first = cluster.at_home.messages
    cluster.when(c.DeleteResource(kind=CORDON, name="w"))
    cluster.deliver()
    (message,) = first
    told: Any = told_command(cluster.at_home.state, message, cluster.home)
    assert (told.revision, told.spec) == (0, ResourceSpec())


def test_lost_messages_between_others_and_before_the_level_lead_to_nothing():
    cluster = Partitions(3)
    first, second = cluster.others
    assert decided.after_loss(cluster.stories[first].state, second, cluster.policies[first]) == []
    old = Story().evolve(e.UpgradeFinalized(level=FIRST_LEVEL, state_version=0, at=NOW)).written()
    assert decided.after_loss(old.state, first, cluster.policies[cluster.home]) == []


def test_a_reconciliation_that_is_under_way_is_not_begun_again():
    cluster = Partitions(2)
    (other,) = cluster.others
    home, policy = cluster.at_home, cluster.policies[cluster.home]
    home._record(decided.after_loss(home.state, other, policy), e.Cause.COMMAND, "0", "")
    assert decided.after_loss(home.state, other, policy) == []


def test_a_reconciliation_that_the_home_begins_tells_what_is_known_once_more():
    cluster = Partitions(2)
    (other,) = cluster.others
    cluster.when(apply("w", CordonSpec()))
    cluster.deliver()
    home = cluster.at_home
    home._record(decided.after_loss(home.state, other, cluster.policies[cluster.home]), e.Cause.COMMAND, "0", "")
    work_through(cluster)
    cluster.deliver()
    cluster.stories[other].then(like(e.ResourcesReconciled, dropped=[])).has_timers()
    assert lagging(cluster, "Cordon/w") == []


def test_windows_know_when_they_turn_and_are_reckoned_anew_with_their_calendar():
    window = WindowSpec("0 8 * * *", 3_600_000, calendar="work", time_zone="UTC")
    day = 86_400_000
    monday = NOW - NOW % day + 4 * day  # 1970-01-05
    story = alone().when(apply("work", CalendarSpec()), at=monday).when(apply("day", window))
    story.then(
        like(e.ResourceApplied), like(e.WindowTurned, open=False, until=monday + 8 * 3_600_000), like(e.ResourceSettled)
    )
    story.when_due(monday + 8 * 3_600_000).then(like(e.WindowTurned, open=True, until=monday + 9 * 3_600_000))
    story.when(apply("work", CalendarSpec(weekdays=[2]))).then(
        like(e.ResourceApplied),
        like(e.WindowTurned, name="day", open=False, until=monday + 2 * day + 8 * 3_600_000),
        like(e.ResourceSettled),
    )
    story.when(c.DeleteResource(kind=WINDOW, name="day")).has_timers()


def test_an_adopted_window_turns_and_one_without_its_calendar_opens_every_day():
    cluster = Partitions(2)
    (other,) = cluster.others
    adopter, policy = cluster.stories[other], cluster.policies[other]
    about: dict[str, Any] = {"home": cluster.home, "revision": 1}
    window, mondays = WindowSpec("0 8 * * *", 3_600_000, calendar="work"), CalendarSpec(weekdays=[0])
    adopter.when(c.AdoptResource(kind=WINDOW, name="day", spec=of(window), **about), policy=policy)
    adopter.then(like(e.ResourceAdopted), like(e.WindowTurned, open=False))
    adopter.when(c.AdoptResource(kind=CALENDAR, name="work", spec=of(mondays), **about), policy=policy)
    adopter.then(like(e.ResourceAdopted), like(e.WindowTurned))
    about["revision"] = 2
    adopter.when(c.AdoptResource(kind=CALENDAR, name="work", spec=ResourceSpec(), **about), policy=policy)
    adopter.then(like(e.ResourceAdopted), like(e.WindowTurned))
    adopter.when(c.ReconcileResources(names=[], home=cluster.home), policy=policy)
    adopter.then(like(e.ResourcesReconciled, dropped=[resource_key(WINDOW, "day")])).has_timers()


def test_what_is_told_is_decided_where_it_arrives_and_what_clients_send_at_home():
    cluster = Partitions(3)
    homes = [home_partition(apply("w", CordonSpec()), policy) for policy in cluster.policies]
    assert homes == [cluster.home] * 3
    assert [home_partition(c.AskResources(partition=0), policy) for policy in cluster.policies] == [0, 1, 2]


def test_a_window_that_never_turns_again_has_no_timer():
    story = alone().when(apply("day", WindowSpec("0 8 * * *", 3_600_000)))
    story.evolve(e.WindowTurned(name="day", open=False, until=0, tzdata="", at=NOW)).written().has_timers()


def test_a_partition_that_knows_nothing_has_no_calendar():
    assert alone().state.calendar("work") is None
