"""manifest.json of a sweep's folder: its command and runs; progress is in the runs' own records."""

import json
from pathlib import Path
from typing import Any

from rebar.errors import RebarError

NAME = "manifest.json"


def read(sweep_dir: Path) -> dict[str, Any]:
    """Return the manifest, without runs if there is none. Raises RebarError if it is invalid."""
    path = sweep_dir / NAME
    try:
        content = json.loads(path.read_bytes())
        # Anything else than a manifest raises an error here.
        _ = {run["folder"] for run in content["runs"]}
        _ = {(job["engine"], job["id"]) for job in content["jobs"].values()}
    except FileNotFoundError:
        return {"runs": [], "jobs": {}}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise RebarError(
            f"{path}: invalid manifest of a sweep ({error}); delete it (runs are kept, and it is "
            "written again), or choose another --sweep_dir"
        ) from error
    return content
