"""manifest.json of a sweep's folder: what was asked for, and the folder of each run.

It does not record progress: that is read from the run's own records (`outcome`).
"""

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rebar.errors import RebarError
from rebar.hparams import grammar, run_name
from rebar.runs.files import write_json
from rebar.sweep.grid import Point

NAME = "manifest.json"
_FORMAT = 1


class Planned(NamedTuple):
    """One run of a sweep.

    Attributes:
      folder: its name below the sweep's folder.
      identity: {"hparams": ..., "seed": ...}, what its checkpoint must have.
      varied: the hyperparameters in which the points differ, and the seed.
      arguments: of the train command.
      record: its entry in the manifest.
    """

    folder: str
    identity: dict[str, Any]
    varied: dict[str, Any]
    arguments: list[str]
    record: dict[str, Any]

    @property
    def log(self) -> str:
        """Name of the file with its output, below the sweep's folder."""
        return self.record["log"]

    @property
    def label(self) -> str:
        """What distinguishes it from the others."""
        values = {n: tuple(v) if isinstance(v, list) else v for n, v in self.varied.items()}
        return " ".join(f"{name}={grammar.write(value)}" for name, value in values.items())


def plan(
    points: Sequence[Point], seeds: Sequence[int], sweep_dir: Path, train_flags: Sequence[str]
) -> list[Planned]:
    """The runs of a grid: all points with the first seed, then with the next.

    So a sweep that is cut short can still compare its points.

    Args:
      points: at least one.
      seeds: of each point.
      sweep_dir: working_dir of the runs.
      train_flags: further arguments of every run.
    """
    rows = [point.hparams.to_dict() for point in points]
    names = [name for name in rows[0] if any(row[name] != rows[0][name] for row in rows)]
    runs = []
    for seed in seeds:
        for point, values in zip(points, rows, strict=True):
            folder = run_name(point.hparams, seed)
            varied = {name: values[name] for name in names} | {"seed": seed}
            arguments = [f"--hparams={string}" for string in point.strings]
            arguments += [f"--seed={seed}", f"--working_dir={sweep_dir}", *train_flags]
            record = {
                "folder": folder,
                "hparams": point.hparams.format(),
                "seed": seed,
                "varied": varied,
                "log": f"logs/{folder}.log",
                "command": shlex.join(["rebar-train", *arguments]),
            }
            identity = {"hparams": values, "seed": seed}
            runs.append(Planned(folder, identity, varied, arguments, record))
    return runs


def read(sweep_dir: Path) -> dict[str, Any] | None:
    """The manifest, None if there is none yet.

    Raises:
      RebarError: it cannot be read, or has another format.
    """
    path = sweep_dir / NAME
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _FORMAT or not isinstance(content["settings"], dict):
            raise ValueError("another format")
        for folder in (r["folder"] for name in ("runs", "earlier_runs") for r in content[name]):
            # A name, which leads nowhere else.
            if not folder.isprintable() or not Path(folder).name == folder != "..":
                raise ValueError(f"{folder!r} is not the name of a folder")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise RebarError(
            f"{path}: not the manifest of a sweep ({error}); delete it to have it written again "
            "(runs stay as they are), or choose another --sweep_dir"
        ) from error
    return content


def write(
    sweep_dir: Path,
    runs: Sequence[Planned],
    asked: dict[str, Any],
    settings: dict[str, Any],
    before: dict[str, Any] | None,
    jobs: dict[str, dict[str, str]],
) -> None:
    """Write the manifest, completely or not at all.

    Args:
      sweep_dir: the sweep's folder.
      runs: of the present grid.
      asked: what was typed.
      settings: flags of the train command that change what runs record.
      before: the manifest that it replaces; its runs that are not in the grid any more are kept
        under "earlier_runs".
      jobs: folder of a run -> engine and id of its job on a cluster.
    """
    present = {run.folder for run in runs}
    earlier = [*before["earlier_runs"], *before["runs"]] if before else []
    versions = {"python": platform.python_version()}
    for name in ("rebar-gradients", "tensorflow", "keras", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    content = {
        "format": _FORMAT,
        "asked": asked,
        "settings": settings,
        "versions": versions,
        "runs": [run.record for run in runs],
        "earlier_runs": [record for record in earlier if record["folder"] not in present],
        "jobs": jobs,
    }
    write_json(sweep_dir / NAME, content)


def check_settings(
    before: dict[str, Any] | None, settings: dict[str, Any], sweep_dir: Path
) -> None:
    """Raise RebarError if runs of this folder were started with other `settings`."""
    old = before["settings"] if before else settings
    names = sorted(name for name in {*old, *settings} if old.get(name) != settings.get(name))
    known = [*before["runs"], *before["earlier_runs"]] if before else []
    if names and any((sweep_dir / record["folder"]).exists() for record in known):
        changes = ", ".join(
            f"--{n} was {old.get(n, 'the default')}, is {settings.get(n, 'the default')}"
            for n in names
        )
        raise RebarError(
            f"{sweep_dir}: its runs were started with other flags ({changes}) and could not be "
            "compared with new ones; give the old flags, or choose another --sweep_dir"
        )
