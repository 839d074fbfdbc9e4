"""The one rendering of each thing that users see: jobs, attempts' output, events, workers, queues, partitions.

Command line, HTTP and the Python client all show a thing by the struct of this package that stands for it. A field has
the same name and the same form at every door, and the OpenAPI document is generated from the same structs. To show a
new field, add it to the struct and to the function below it that fills the struct.

The rules of all documents:

- A field without a value is left out: there is no `null`, no empty text, no zero that means "none". Fields without a
  default in the struct are always there, even if they are an empty list, or the output of an attempt that wrote
  nothing. (In Python, a field without a value is None.)
- Times are RFC 3339 in UTC, in fields named `…_at`. Durations of a job are texts such as `90s`; measured durations are
  numbers of seconds, in fields named `…_seconds`.
- A job is named by `job`, as `queue/job_id`.
- A process that exited has an `exit_code`; one that a signal ended has a `signal` instead.

The package is pure: it knows rows and records of the core, and neither the log nor the projection.
"""
