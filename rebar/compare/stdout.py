"""Runs from captured standard output: of our train command, or of the 2017 script.

Both print the hyperparameters as a dict first and the same lines after it; ours say more between
the dict and "run: <folder>". A file may hold several runs, and a run that was resumed prints its
dict again.
"""

import ast
import re
from typing import Any

from rebar.compare.runs import RunLog, fill
from rebar.training import records

_HPARAMS = re.compile(r"^\{.*['\"]model['\"]: .*\}[ \t]*$", re.MULTILINE)
_ABOUT = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
_SEED = re.compile(r"-s(\d+)-[0-9a-f]{10}/?$")
_TORN = re.compile(r"\n(Step|Valid|Test) \d+: ?\[?[^\]\n]*(\n[^\]]*)?\Z")
_MEASURED = re.compile(
    r"^Variance (\d+) (.+?): (.* \+- .*); (\S+) evaluations of f, (\S+) ms", re.MULTILINE
)
_PART = re.compile(r"(\w+) (\S+) \+- (\S+?)(?:, |$)")
SAMPLES_2017 = 100
"""S of the bound that the 2017 script evaluates."""


def read(text: str, path: str) -> list[RunLog]:
    """The runs in captured output.

    Args:
      text: all of it.
      path: of the file, for names and messages.

    Returns:
      A run for each dict of hyperparameters, or a single one without any; [] without records.

    Raises:
      RebarError: an array holds something that is not a number.
    """
    text = text.replace("\r\n", "\n")
    pieces: list[tuple[dict[str, Any], str]] = []
    starts = list(_HPARAMS.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends, strict=False):
        given = _literal(match[0].strip())
        piece = text[match.end() : end]
        if isinstance(given, dict):
            if pieces and pieces[-1][0] == given and _seed(pieces[-1][1]) == _seed(piece):
                piece = pieces.pop()[1] + piece
            pieces.append((given, piece))
    found = [_run(given, piece, path) for given, piece in pieces or [({}, text)]]
    found = [run for run in found if run.records]
    for i, run in enumerate(found):
        if len(found) > 1:
            run.path = f"{path} (run {i + 1})"
    return found


def _run(given, text, path) -> RunLog:
    about = {
        match[1]: _literal(match[2])
        for match in _ABOUT.finditer(text.partition("\nrun: ")[0] if "\nrun: " in text else "")
    }
    ours = "legacy2017" in given
    hparams = fill(given, path) if given else {}
    if given and not ours:
        hparams |= {"legacy2017": True}
    notes = ["the last line is cut off"] if _TORN.search("\n" + text) else []
    if not given:
        notes.append("no hyperparameters in it: task, estimator and seed are not known")
    origin = "stdout" if ours or not given else "2017"
    return RunLog(
        path,
        origin,
        hparams,
        about,
        about.pop("seed", _seed(text)),
        _records(text, not ours),
        notes,
    )


def _seed(text):
    """From the name of the run's folder."""
    match = re.search(r"^run: (.*)$", text, re.MULTILINE)
    seed = _SEED.search(match[1]) if match else None
    return int(seed[1]) if seed else None


def _records(text, of_2017):
    """As in metrics.jsonl, as far as they were printed."""
    parsed = [r for r in records.parse_log(text) if r["values"] or r["valid"] or r["test"]]
    steps_per_epoch = next((r["step"] for r in parsed if r["values"]), None)
    result = []
    for one in parsed:
        record: dict[str, Any] = {"step": one["step"]}
        if steps_per_epoch:
            record["epoch"] = one["step"] / steps_per_epoch
        if one["values"]:
            record["elbo"] = one["values"][0]
        if one["log_variance"] is not None:
            record["log_variance"] = one["log_variance"]
        for name in ("valid", "test"):
            if one[name]:
                record[name] = one[name][0]
                if of_2017:
                    record["eval_samples"] = SAMPLES_2017
        result.append(record)
    by_step = {record["step"]: record for record in result}
    for match in _MEASURED.finditer(text):
        if int(match[1]) in by_step:
            table = by_step[int(match[1])].setdefault("estimator_variance", {})
            parts = {name: float(value) for name, value, _ in _PART.findall(match[3])}
            table[match[2]] = {**parts, "evaluations": float(match[4])}
    return result


def _literal(text):
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
