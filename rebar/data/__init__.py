"""Data sets: where they come from (`sources`, `download`) and how a task uses them (`datasets`)."""

from rebar.data.datasets import Dataset, load
from rebar.data.download import ensure
from rebar.data.sources import DATA_SETS, TASKS, Task

__all__ = ["DATA_SETS", "TASKS", "Dataset", "Task", "ensure", "load"]
