"""manifest.json of a sweep's folder: what was asked for, and where each run lies.

It says nothing about how far a run has come: that is read off the run's own records (`outcome`).
"""

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rebar.errors import RebarError
from rebar.hparams import run_name
from rebar.runs.files import write_json
from rebar.sweep.grid import Point, varied

NAME = "manifest.json"
_FORMAT = 1


class Planned(NamedTuple):
    """One run of a sweep.

    Attributes:
      folder: its name below the sweep's folder.
      identity: {"hparams": ..., "seed": ...}, what its checkpoint must be of.
      hparams: as an --hparams string.
      varied: the hyperparameters in which the points differ, and the seed.
      arguments: of the train command.
    """

    folder: str
    identity: dict[str, Any]
    hparams: str
    varied: dict[str, Any]
    arguments: list[str]

    @property
    def log(self) -> str:
        """Name of the file with its output, below the sweep's folder."""
        return f"logs/{self.folder}.log"

    @property
    def command(self) -> str:
        """As one would type it."""
        return shlex.join(["rebar-train", *self.arguments])

    @property
    def label(self) -> str:
        """What tells it from the others."""
        return " ".join(f"{name}={_text(value)}" for name, value in self.varied.items())

    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "folder": self.folder,
            "hparams": self.hparams,
            "seed": self.identity["seed"],
            "varied": self.varied,
            "log": self.log,
            "command": self.command,
        }


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
    names = varied([point.hparams for point in points])
    runs = []
    for seed in seeds:
        for point in points:
            values = point.hparams.to_dict()
            runs.append(
                Planned(
                    folder=run_name(point.hparams, seed),
                    identity={"hparams": values, "seed": seed},
                    hparams=point.hparams.format(),
                    varied={name: values[name] for name in names} | {"seed": seed},
                    arguments=[
                        *(f"--hparams={string}" for string in point.strings),
                        f"--seed={seed}",
                        f"--working_dir={sweep_dir}",
                        *train_flags,
                    ],
                )
            )
    return runs


def read(sweep_dir: Path) -> dict[str, Any] | None:
    """The manifest, None if there is none yet.

    Raises:
      RebarError: it cannot be read, or is none that this version writes.
    """
    path = sweep_dir / NAME
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RebarError(
            f"cannot read {path}: {error}. Delete it to have it written again (runs stay as they "
            "are), or choose another --sweep_dir"
        ) from error
    if not _is_manifest(content):
        raise RebarError(
            f"{path} is no manifest of a sweep (format {_FORMAT}); choose another --sweep_dir"
        )
    return content


def _is_manifest(content: Any) -> bool:
    """Whether it has what this module reads of it."""
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return False
    lists = [content.get(name) for name in ("runs", "earlier_runs")]
    return isinstance(content.get("settings"), dict) and all(
        isinstance(records, list) and all(map(_is_record, records)) for records in lists
    )


def _is_record(record: Any) -> bool:
    folder = record.get("folder") if isinstance(record, dict) else None
    # A name, which leads nowhere else.
    return isinstance(folder, str) and folder.isprintable() and Path(folder).name == folder != ".."


def write(
    sweep_dir: Path,
    runs: Sequence[Planned],
    asked: dict[str, Any],
    settings: dict[str, Any],
    before: dict[str, Any] | None,
    jobs: dict[str, dict[str, str]],
) -> None:
    """Write the manifest, whole or not at all.

    Args:
      sweep_dir: the sweep's folder.
      runs: of the present grid.
      asked: what was typed.
      settings: flags of the train command that bear on what runs record.
      before: the manifest that it takes the place of; its runs that are not in the grid any more
        are kept under "earlier_runs".
      jobs: folder of a run -> engine and id of the job that a cluster was given for it.
    """
    present = {run.folder for run in runs}
    earlier = [*before["earlier_runs"], *before["runs"]] if before else []
    content = {
        "format": _FORMAT,
        "asked": asked,
        "settings": settings,
        "versions": _versions(),
        "runs": [run.record() for run in runs],
        "earlier_runs": [record for record in earlier if record["folder"] not in present],
        "jobs": jobs,
    }
    write_json(sweep_dir / NAME, content)


def check_settings(
    before: dict[str, Any] | None, settings: dict[str, Any], sweep_dir: Path
) -> None:
    """Refuse to mix runs that were not recorded alike.

    Raises:
      RebarError: runs of this folder were started with other `settings`.
    """
    if before is None or before["settings"] == settings:
        return
    known = [*before["runs"], *before["earlier_runs"]]
    if not any((sweep_dir / record["folder"]).exists() for record in known):
        return
    old = before["settings"]
    names = sorted(name for name in {*old, *settings} if old.get(name) != settings.get(name))
    changes = ", ".join(
        f"--{name} was {old.get(name, 'the default')}, is {settings.get(name, 'the default')}"
        for name in names
    )
    raise RebarError(
        f"the runs in {sweep_dir} were started with other flags: {changes}. They could not be "
        "compared with new ones; give the old flags, or choose another --sweep_dir"
    )


def _versions() -> dict[str, str]:
    """What is installed, found without importing it."""
    found = {"python": platform.python_version()}
    for name in ("rebar-gradients", "tensorflow", "keras", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _text(value: Any) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)
