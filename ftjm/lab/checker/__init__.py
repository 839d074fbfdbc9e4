"""The history checker: judges whether the history in the topics follows the rules of ftjm.

The checker states every rule of the product a second time, in other words, and shares no code with what made the
history: it imports the records, the rows' types and the table of transitions, and nothing else. So a bug of the product
cannot hide itself. The checker is pure and reads the history once, as a stream; its memory is that of live jobs,
open batches and remembered names.

| file | what it judges |
|---|---|
| `judge.py` | the entry: takes records one by one, keeps the state of each job and partition, returns the verdict |
| `job.py` | one job: each event is a legal transition, each attempt has one outcome |
| `submissions.py` | what a new job is: what its sender gave, and its queue's defaults |
| `job_terms.py` | the times that follow from a job's specification: delay, deadline, backoff |
| `outcomes.py` | the end of an attempt: retried or not, and as what the job ends |
| `causes.py` | the cause that an event may have: a command, a timer, an offer, a lapsed session |
| `partition_rules.py` | order of dispatches, limits of slots, and timers of a partition |
| `concurrency_keys.py` | who has a concurrency key, and what becomes of a job that finds it taken |
| `waiting_limits.py` | what happens to jobs that have waited for as long as their queue allows |
| `queue_limits.py` | what queues are declared to, and paused |
| `schedules.py` | the instants of schedules: each once, at its time |
| `schedule_terms.py` | what follows from a schedule's declaration: its instants and its jobs |
| `remembered.py` | names that a partition remembers for a day: command ids and lost sessions |
| `partitioning.py` | the partition that a job belongs to |
| `batches.py` | the chain of batches, and that every command is answered once |
| `command_answers.py` | that an answer fits its command |
| `executions.py` | the log against what really ran, as the attempts recorded it |
"""

from ftjm.lab.checker.evidence import Evidence, Execution, WorkerOffers
from ftjm.lab.checker.judge import Judge, check
from ftjm.lab.checker.verdict import JobName, LogEntry, Verdict, Violation, ViolationKind

__all__ = [
    "Evidence",
    "Execution",
    "JobName",
    "Judge",
    "LogEntry",
    "Verdict",
    "Violation",
    "ViolationKind",
    "WorkerOffers",
    "check",
]
