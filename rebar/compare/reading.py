"""From what a user names (run folders, folders of these, globs, captured output) to runs.

What cannot be used is named and passed over; a comparison is made of the rest.
"""

import codecs
import glob
import gzip
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rebar.compare import sound, stdout
from rebar.compare.runs import RunLog, fill, listed
from rebar.errors import RebarError

HPARAMS, METRICS = "hparams.json", "metrics.jsonl"
_MOST_BYTES = 2**30


def read(arguments: Iterable[str]) -> tuple[list[RunLog], list[str]]:
    """The runs that arguments name, each once, and a sentence for each thing that is no run.

    Raises:
      RebarError: an argument does not exist or matches nothing, and no other one helps either.
    """
    runs: list[RunLog] = []
    problems: list[str] = []
    seen: set[Path] = set()
    for path in _paths(arguments, problems):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            found = [_folder(path)] if path.is_dir() else _file(path)
        except (RebarError, OSError) as error:
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        runs += found
    if not runs:
        told = "".join(f"\n  - {problem}" for problem in problems)
        raise RebarError(
            "no run can be read from what was given; give folders of runs (WORKING_DIR/<run>), "
            f"folders that hold these, or files with what a run printed:{told or ' nothing given'}"
        )
    return runs, problems


def _paths(arguments, problems):
    """Run folders and files, in order."""
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.exists():
            found = [path]
        elif glob.has_magic(str(path)):
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))
            if not found:
                problems.append(f"{argument}: nothing matches")
        else:
            found = []
            problems.append(f"{argument}: does not exist")
        for one in found:
            yield from _runs_at(one, problems)


def _runs_at(path, problems):
    if path.is_file():
        yield path.parent if path.name in (HPARAMS, METRICS) else path
        return
    folders = sorted(
        Path(parent) for parent, _, names in os.walk(path) if HPARAMS in names or METRICS in names
    )
    if not folders:
        problems.append(f"{path}: no folder of a run in it")
    yield from folders


def _folder(folder: Path) -> RunLog:
    """A run from its folder. Raises RebarError where it has no record."""
    records, notes = _records(folder / METRICS)
    about: dict[str, Any] = {}
    hparams: dict[str, Any] = {}
    try:
        about = sound.from_json((folder / HPARAMS).read_bytes())
        hparams = fill(about["hparams"], HPARAMS)
    except FileNotFoundError:
        notes.append(f"no {HPARAMS}: task, estimator and seed are not known")
    except (ValueError, LookupError, TypeError) as error:
        about = {}
        notes.append(f"{HPARAMS} cannot be read ({error}): task, estimator and seed are not known")
    if not records:
        raise RebarError(f"no record of an epoch yet in {METRICS}: just started, or crashed")
    known = {name: value for name, value in about.items() if name not in ("hparams", "seed")}
    rest, left_out = sound.about(known)
    if left_out:
        notes.append(f"{HPARAMS}: {', '.join(left_out)} cannot be read and were passed over")
    seed = sound.seed(about.get("seed"))
    return RunLog(str(folder), "folder", hparams, rest, seed, records, notes)


def _records(path: Path):
    """The records of metrics.jsonl by step, and what is odd; a later one of a step stands."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    found: dict[int, dict[str, Any]] = {}
    notes, bad = [], []
    for number, line in enumerate(lines, start=1):
        try:
            record = sound.record(sound.from_json(line))
        except ValueError:
            record = None
        if record:
            found[record["step"]] = record
        elif number < len(lines):
            bad.append(number)
        elif line:
            notes.append(f"the last line of {METRICS} is cut off (a crash, or being written)")
    if bad:
        word = "line" if len(bad) == 1 else "lines"
        notes.append(f"{METRICS}: {word} {listed(bad)} cannot be read and were passed over")
    return [found[step] for step in sorted(found)], notes


def _file(path: Path) -> list[RunLog]:
    """Runs from captured output. Raises RebarError where there is none in it."""
    found = stdout.read(_text(path), str(path))
    if not found:
        raise RebarError(
            'no line of a run in it: must have lines such as "Step 2084: [-231.0 ...]", whatever '
            "is in front of them"
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
        raise RebarError(f"a damaged gzip file: {error}") from None
    if len(content) > _MOST_BYTES:
        raise RebarError("too large for the output of a run")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4096]:
        raise RebarError("not a text file; save it as UTF-8")
    return content.decode("utf-8-sig", errors="replace")
