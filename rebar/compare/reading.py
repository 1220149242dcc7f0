"""Runs from what a user names: run folders, folders of these, globs, captured output.

What cannot be used is reported and left out; the comparison is made of the rest.
"""

import codecs
import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from rebar.compare import stdout
from rebar.compare.runs import Run, make_run
from rebar.errors import RebarError
from rebar.runs.records import MetricsFile
from rebar.sweep import manifest

HPARAMS, METRICS = "hparams.json", "metrics.jsonl"
_MOST_BYTES = 2**30


def read(arguments: Iterable[str]) -> tuple[list[Run], list[str]]:
    """Read the runs that arguments name, each once, in the order given.

    Runs of a sweep are in the order of its manifest, those of other folders in that of their names.

    Returns:
      The runs, and one sentence for each path that is not a run.

    Raises:
      RebarError: there is no run.
    """
    problems: list[str] = []
    runs: list[Run] = []
    paths: dict[str, Path] = {}
    for path in _paths(arguments, problems):
        paths.setdefault(os.path.realpath(path), path)
    for path in paths.values():
        try:
            runs += [_folder(path)] if path.is_dir() else _file(path)
        except (RebarError, OSError) as error:
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
    if not runs:
        details = "".join(f"\n  - {problem}" for problem in problems) or " no path was given"
        raise RebarError(
            "no run can be read; give folders of runs (WORKING_DIR/<run>), folders that contain "
            f"these, or files with the output of runs:{details}"
        )
    return runs, problems


def _paths(arguments, problems) -> Iterator[Path]:
    """Run folders and files, in order."""
    for argument in arguments:
        path = Path(argument).expanduser()
        found = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not found:
            missing = "nothing matches" if glob.has_magic(str(path)) else "does not exist"
            problems.append(f"{argument}: {missing}")
        for one in found:
            yield from _runs_at(one, problems)


def _runs_at(path, problems):
    if path.is_file():
        yield path.parent if path.name in (HPARAMS, METRICS) else path
        return
    folders = [Path(parent) for parent, _, names in os.walk(path) if {HPARAMS, METRICS} & {*names}]
    order: dict[str, int] = {}
    try:
        for record in (manifest.read(path) or {"runs": []})["runs"]:
            order[record["folder"]] = len(order)
    except RebarError as error:
        problems.append(f"{error}; its runs are in alphabetical order")
    yield from sorted(folders, key=lambda folder: (order.get(folder.name, len(order)), folder))
    if not folders:
        problems.append(f"{path}: no folder of a run in it")


def _folder(folder: Path) -> Run:
    """A run from its folder. Raises RebarError or OSError."""
    records = MetricsFile(folder / METRICS).read()
    try:
        about = json.loads((folder / HPARAMS).read_bytes())
        hparams, seed = about.pop("hparams"), about.pop("seed", None)
    except FileNotFoundError:
        raise RebarError(f"no {HPARAMS} in it") from None
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise RebarError(f"{HPARAMS}: invalid ({error})") from error
    run = make_run(str(folder), "folder", hparams, about, seed, records)
    if run.values.empty:
        raise RebarError(f"no record of an epoch yet in {METRICS}: just started, or crashed")
    return run


def _file(path: Path) -> list[Run]:
    """Runs from captured output. Raises RebarError where there is none in it."""
    found = stdout.read(_text(path), str(path))
    if not found:
        raise RebarError(
            'no line of a run in it; expected lines such as "Step 2084: [-231.0 ...]" '
            "(--log_format=2017), with or without a prefix per line; give the run's folder instead"
        )
    return found


def _text(path: Path) -> str:
    """The text of a file, gzipped or not, in UTF-8 or (with its byte order mark) UTF-16."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RebarError(f"damaged gzip file: {error}") from None
    if len(content) > _MOST_BYTES:
        raise RebarError("too large for the output of a run")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4096]:
        raise RebarError("not a text file; save it as UTF-8")
    return content.decode("utf-8-sig", errors="replace")
