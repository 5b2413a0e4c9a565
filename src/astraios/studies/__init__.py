"""Studies: grids of base models, methods, seeds and tasks.

`study.py` is what a user writes, `plan.py` expands it to jobs, `work.py` does one job, `run.py`
executes what is missing through a launcher of `launchers/`.
"""
