"""Data sets: where they come from (`sources`, `download`) and how a task uses them (`datasets`).

User-defined data are arrays, NPZ files and registered loaders (`custom`).
"""

from rebar.data.custom import from_arrays, from_file, register_task
from rebar.data.datasets import Dataset, load
from rebar.data.download import ensure
from rebar.data.sources import DATA_SETS, TASKS, Task

__all__ = [
    "DATA_SETS",
    "TASKS",
    "Dataset",
    "Task",
    "ensure",
    "from_arrays",
    "from_file",
    "load",
    "register_task",
]
