"""Records in results/: JSON with numbers of six digits."""

import json
import re
from pathlib import Path

import rebar
from benchmarks import common

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def path(kind, *names):
    """Return the file of a record, e.g. results/frozen/linear/DisARM.json."""
    safe = [re.sub(r"[^\w.+-]+", "_", name).strip("_") for name in names]
    return RESULTS.joinpath(kind, *safe[:-1], f"{safe[-1]}.json")


def write(file, record):
    """Write a record with the version, the processor and the libraries."""
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {"version": rebar.__version__, **common.surroundings(pinned=False)}
    text = json.dumps(_rounded(record | about), indent=1, allow_nan=False)
    common.write_file(file, f"{text}\n".encode())


def read(kind, *names):
    """Return the records of a kind in a folder, sorted by file."""
    folder = RESULTS.joinpath(kind, *names)
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
