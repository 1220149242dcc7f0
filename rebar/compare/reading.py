"""Runs from what a user names: run folders, folders of these, globs, captured output.

The train command and the 2017 script print the hyperparameters as a dict first and the same lines
after it; the train command prints more fields, such as "data: ...", below the dict. A file may
contain several runs, and a resumed run prints its dict again.
"""

import ast
import codecs
import glob
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rebar.compare.runs import Run, make_run
from rebar.errors import RebarError
from rebar.runs import records
from rebar.sweep import manifest

_FILES = ("hparams.json", "metrics.jsonl")
_INVALID = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors of content that is not what a run logs."""
_FIELD = re.compile(r"^(\w+): (.*)$", re.MULTILINE)


def read(arguments: Iterable[str]) -> tuple[list[Run], list[str]]:
    """Read the runs that arguments name, each once, in the order given.

    Runs of a sweep are in the order of its manifest, those of other folders in that of their names.

    Returns:
      The runs, and one sentence per path that is not a run.

    Raises:
      RebarError: there is no run.
    """
    problems: list[str] = []
    runs: list[Run] = []
    paths = {os.path.realpath(path): path for path in _paths(arguments, problems)}
    for path in paths.values():
        try:
            runs += [_folder(path)] if path.is_dir() else _file(path)
        except (RebarError, OSError) as error:
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
        except _INVALID as error:
            problems.append(f"{path}: not what a run logs ({type(error).__name__}: {error})")
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
        path = Path(os.path.expanduser(argument))
        paths = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not paths:
            problems.append(f"{argument}: no such file or folder")
        for path in paths:
            if path.is_file():
                yield path.parent if path.name in _FILES else path
                continue
            folders = [Path(parent) for parent, _, names in os.walk(path) if {*_FILES} & {*names}]
            planned = enumerate(manifest.read(path)["runs"])
            order = {record["folder"]: i for i, record in planned}
            yield from sorted(folders, key=lambda f: (order.get(f.name, len(order)), f))
            if not folders:
                problems.append(f"{path}: contains no folder of a run")


def _folder(folder: Path) -> Run:
    rows = records.MetricsFile(folder / "metrics.jsonl").read()
    about = json.loads((folder / "hparams.json").read_bytes())
    run = make_run(str(folder), "folder", about.pop("hparams"), about, rows)
    if run.values.empty:
        raise RebarError("no record of an epoch in metrics.jsonl: just started, or crashed")
    return run


def _file(path: Path) -> list[Run]:
    """Runs from captured output."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error) as error:
        raise RebarError(f"damaged gzip file: {error}") from None
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    runs = parse(content.decode("utf-16" if utf16 else "utf-8-sig", "replace"), str(path))
    if not runs:
        raise RebarError(
            'no line of a run in it; expected text with lines such as "Step 2084: [-231.0 ...]" '
            "(--log_format=2017), without a prefix per line; give the run's folder instead"
        )
    return runs


def parse(text: str, path: str) -> list[Run]:
    """The runs in captured output; [] without any record. `path` is for names and messages."""
    texts: dict[tuple, str] = {}
    key: tuple = ("",)
    for piece in re.split(r"^(?=\{)", text.replace("\r\n", "\n"), flags=re.MULTILINE):
        head = piece.partition("\n")[0]
        if "'model': " in head:
            key = (head, *re.findall("^run: .*", piece, re.MULTILINE)[:1])
        texts[key] = texts.get(key, "") + piece
    runs = [_run(_literal(key[0]), piece, path) for key, piece in texts.items()]
    runs = [run for run in runs if len(run.values)]
    for i, run in enumerate(runs):
        run.path = f"{path} (run {i + 1})" if len(runs) > 1 else path
    return runs


def _literal(text: str) -> Any:
    """The value of a Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _run(hparams, text, path) -> Run:
    hparams = hparams if isinstance(hparams, dict) else {}
    head = text.partition("\nStep ")[0] if hparams else ""
    about = {match[1]: _literal(match[2]) for match in _FIELD.finditer(head)}
    origin = "2017" if hparams and "legacy2017" not in hparams else "stdout"
    if origin == "2017":
        hparams = {**hparams, "legacy2017": True}
        about = {"schedule": {"eval_samples": 100}}  # of the 2017 script
    rows, steps_per_epoch = [], None
    for record in records.parse_log(text):
        step, values = record.pop("step"), record.pop("values")
        row = {name: value for name, value in record.items() if value not in (None, [])}
        row |= {name: row[name][0] for name in ("valid", "test") if name in row}
        if values:
            steps_per_epoch = steps_per_epoch or step
            row["elbo"] = values[0]
        if row and steps_per_epoch:
            rows.append({"step": step, "epoch": step / steps_per_epoch, **row})
    return make_run(path, origin, hparams, about, rows)
