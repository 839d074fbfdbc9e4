"""Limits that several rooms apply to the same value. This file imports nothing, so that the guard starts fast."""

CHECKPOINT_BYTES_MAX = 64 * 1024
"""Size of a checkpoint's JSON. The task and the guard refuse a larger one, and so does the partition."""
PROGRESS_TEXT_MAX = 1_000
"""Characters of a progress text that are kept."""
CONTINUE_FOR_MAX_MS = 23 * 3_600_000
"""Largest `continue_for` of a job. What is sent to a worker that is cut off waits in the topic `dispatch`, which keeps
records for 24 h: a worker that returns must still find there that its job was cancelled."""

RECORD_BYTES_MAX = 4 * 1024 * 1024
"""Size of one record of the log. Topics, producers, consumers and the codec all have this limit."""
INLINE_BYTES_MAX = 1024 * 1024
"""Largest value of the setting `inline_limit_bytes`: of a payload, a result, and each output that is kept."""
ERROR_CHARACTERS_MAX = 64_000
"""Characters of an attempt's error that are kept: its end, which has the reason."""
ENVELOPE_BYTES_MAX = 300_000
"""Bytes of a record beside the parts that `inline_limit_bytes` limits: names, numbers and an error in UTF-8."""
COMMAND_BYTES_MAX = 3 * INLINE_BYTES_MAX + ENVELOPE_BYTES_MAX
"""Size of a command. The largest is the report of an attempt: a result and two outputs, each at its limit."""
FORWARD_BYTES_MAX = 10_000
"""Bytes that the record of a forwarded command has beside the command itself."""

TIME_MAX_MS = 1 << 53
"""Largest time and duration: clients in languages whose numbers are floats lose digits beyond it (the year 287396)."""
COUNT_MAX = 1 << 53
"""Largest count, number of a message, and offset; for the same reason."""
SMALL_MAX = (1 << 31) - 1
"""Largest number of a field that Avro calls `int`: it has 32 bits."""
LEASE_MS_MIN = 1_000
LEASE_MS_MAX = 24 * 3_600_000
PRIORITY_MAX = 100
PARTITIONS_MAX = 4_096
"""Largest value of the setting `partitions`."""
LANES_MAX = 1_024
"""Largest value of the setting `lanes`."""
LIST_MAX = 100_000
"""Items of a list that members of the cluster send each other."""
WORDS_MAX = 10_000
"""Words of a job's command; variables of its environment; labels."""
WORD_CHARACTERS_MAX = 131_072
"""Characters of one word or variable. The kernel takes no longer one (`MAX_ARG_STRLEN`)."""
PATH_CHARACTERS_MAX = 4_096
"""Characters of a path. The kernel takes no longer one (`PATH_MAX`)."""
TEXT_CHARACTERS_MAX = 4_000
"""Characters of a reason that a person or a worker gives."""
TITLE_CHARACTERS_MAX = 300
"""Characters of what names a person, a host or a process for people."""
WORKER_NAME_CHARACTERS_MAX = 95
"""Characters of a worker's name. The names of its sessions have 33 characters more, and a name has at most 128."""
RATE_MAX = 1_000_000
"""Largest number of starts in a queue's rate, and of its burst."""
RATE_PER_MS_MAX = 31 * 86_400_000
"""Longest time that a queue's rate is given for."""
AGEING_MS_MAX = 3_650 * 86_400_000
"""Longest wait that one point of priority may be worth: ten years. Waiting makes no difference then."""
WEIGHT_MAX = 1_000
"""Largest weight of a queue, and of a share."""
SHARES_MAX = 500
"""Shares that a queue lists, as many as AWS Batch allows."""
HALF_LIFE_MS_MIN = 1_000
HALF_LIFE_MS_MAX = 7 * 86_400_000
"""Bounds of the half-life of a share's usage. AWS Batch allows a week at most."""
WAITING_LIMITS_MAX = 20
WAITING_MS_MIN = 1_000
"""Shortest time that a queue limits the waiting of its jobs to."""
WAITING_MS_MAX = DEAD_LETTER_MS_MAX = 3_650 * 86_400_000
"""Longest such time, and longest time for which a queue keeps jobs that failed for good: ten years."""
INSTANT_MAX_MS = 253_402_300_799_000
"""The last second of the year 9999. Instants of schedules, and limits of them, are not beyond it."""
EVERY_MS_MAX = STARTING_DEADLINE_MS_MAX = 3_650 * 86_400_000
"""Longest interval of a schedule, and longest time after which an instant is missed: ten years."""
JITTER_MS_MAX = 86_400_000
COMMAND_ID_MEMORY_MS = 86_400_000
"""How long the id of a command is remembered, so that the command is carried out only once. What has become of a bulk
request and of a backfill is kept as long."""
TIME_ZONE_CHARACTERS_MAX = 100
CRON_CHARACTERS_MAX = 200
SCHEDULE_NAME_CHARACTERS_MAX = 111
"""Characters of a schedule's name. The ids of its jobs have 17 characters more (`.20261129T013000Z`), and a name has at
most 128."""
BACKFILL_ACTIVE_MAX = 100
"""Largest number of runs of one backfill that have not ended. Its row has the ids of their jobs."""
BACKFILL_INSTANTS_MAX = 10_000
"""Instants that one backfill may be about."""
LABELS_MAX = 100
"""Labels of a declared resource."""
RESOURCES_MAX = 1_000
"""Calendars, windows and cordons of a cluster, together. Every partition reads all of them."""
CALENDAR_DATES_MAX = 5_000
"""Dates that a calendar includes, and that it excludes."""
PATTERNS_MAX = 1_000
"""Names and patterns of queues, and of workers, in a window."""
WINDOW_MS_MIN = 1_000
WINDOW_MS_MAX = 366 * 86_400_000
"""Bounds of the time that a window is open."""
