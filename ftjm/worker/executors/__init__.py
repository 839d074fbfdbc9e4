"""The executors, which run jobs: commands and Python tasks. `ports.py` defines an executor, and how to add one."""
