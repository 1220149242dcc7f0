"""manifest.json of a sweep's folder: its command and runs; progress is in the runs' own records."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebar.errors import RebarError

NAME = "manifest.json"
FORMAT = 1


def read(sweep_dir: Path) -> dict[str, Any] | None:
    """Return the manifest, None if there is none yet. Raises RebarError if it is invalid."""
    path = sweep_dir / NAME
    try:
        content = json.loads(path.read_bytes())
        texts = [run["folder"] for run in content["runs"]]
        texts += [job[name] for job in content["jobs"].values() for name in ("engine", "id")]
        valid = content["format"] == FORMAT and isinstance(content["settings"], dict)
        if not valid or not all(isinstance(text, str) for text in texts):
            raise ValueError("another format")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise RebarError(
            f"{path}: invalid manifest of a sweep ({error}); delete it (runs are kept, and it is "
            "written again), or choose another --sweep_dir"
        ) from error
    return content


def check_settings(old: Mapping[str, Any], settings: Mapping[str, Any], sweep_dir: Path) -> None:
    """Raise RebarError if runs of this folder were started with the old, other settings."""
    flags = [" ".join(f"--{n}={v}" for n, v in x.items()) or "defaults" for x in (old, settings)]
    if old != settings and any(sweep_dir.glob("*/metrics.jsonl")):
        raise RebarError(
            f"{sweep_dir}: its runs were started with {flags[0]}, not {flags[1]}, and could not be "
            "compared with new ones; give the old flags, or choose another --sweep_dir"
        )
