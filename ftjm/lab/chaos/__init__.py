"""`ftjm chaos`: breaks a cluster of its own while it works, by a plan from a seed, and judges the history.

A run has four steps:

1. `cluster.py` starts brokers, schedulers, workers and an API. Every process reaches every broker through a proxy
   (`proxies.py`), so that the run can cut single connections.
2. `load.py` submits jobs, and `faults.py` injects the faults of the plan. Both the jobs (`jobs.py`) and the plan
   (`plan.py`) are pure functions of the seed. Each job, be it a command or a Python task (`tasks.py`), records when it
   runs (`recorder.py`).
3. All faults are healed, and `run.py` waits until all jobs have ended.
4. The history checker judges the topics together with the recorded executions, and `store_comparison.py` compares every
   store with a new fold of the log. `report.py` and `plot.py` show the result.
"""
