"""Benchmarks: how fast the engine is on this machine, beside a bare pipeline of the same libraries.

`suites.py` lists the suites, one file each; each file has a function `run(cluster)` that returns figures, and
docs/benchmarks.md describes each figure. `cluster.py` starts the processes, `options.py` holds the settings of a
run, `report.py` the document that a run prints. `soak.py` and `failover.py` also judge the history with the checker.
"""
