"""Runs from captured standard output: of the train command, or of the 2017 script.

Both print the hyperparameters as a dict first and the same lines after it; the train command prints
more fields between the dict and "run: <folder>". A file may contain several runs, and a run that
was resumed prints its dict again.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

from rebar.compare.runs import Run, make_run
from rebar.runs import records

# No pattern looks at a line more than a few times: a file may have one line of 2**28 characters.
_BRACES = re.compile(r"^\{.+\}[ \t]*$", re.MULTILINE)
_MODEL = re.compile(r"['\"]model['\"]: ")
_FIELD = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
_RUN = re.compile(r"^run: (.*)$", re.MULTILINE)
_SEED = re.compile(r"-s([0-9]{1,18})-[0-9a-f]{10}/?$")
_TORN = re.compile(r"\n(?:Step|Valid|Test) \d+:")
_MEASURED = re.compile(
    r"^Variance ([0-9]{1,15}) (.{1,200}?): ([^;\n]+); \S+ evaluations of f, ", re.M
)
_PART = re.compile(r"(\w+) (\S+) \+- \S+")
_RECORD = re.compile(r"^Step [0-9]{1,15}: \[", re.MULTILINE)
_PREFIXED = re.compile(r"^(.{1,200}?)Step [0-9]{1,15}: \[", re.MULTILINE)
_TOKEN = re.compile(r"(?P<d>\d+)|(?P<w>[A-Za-z]+)|(?P<s>\s+)|.")
SAMPLES_2017 = 100
"""Samples of the bound that the 2017 script evaluates."""


def read(text: str, path: str) -> list[Run]:
    """The runs in captured output.

    Args:
      text: the content of the file.
      path: of the file, for names and messages.

    Returns:
      One run per dict of hyperparameters, or a single one without any; [] without records.

    Raises:
      RebarError: an array contains something that is not a number, the dict something that is not a
        hyperparameter.
    """
    text = _without_prefix(text.replace("\r\n", "\n"))
    pieces: list[tuple[dict[str, Any], str]] = []
    starts = [match for match in _BRACES.finditer(text) if _MODEL.search(match[0])]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends, strict=False):
        hparams = _literal(match[0].strip())
        piece = text[match.end() : end]
        if isinstance(hparams, dict):
            if pieces and pieces[-1][0] == hparams and _seed(pieces[-1][1]) == _seed(piece):
                piece = pieces.pop()[1] + piece
            pieces.append((hparams, piece))
    found = [_run(hparams, piece, path) for hparams, piece in pieces or [({}, text)]]
    found = [run for run in found if len(run.values)]
    for i, run in enumerate(found):
        if len(found) > 1:
            run.path = f"{path} (run {i + 1})"
    return found


def _without_prefix(text: str) -> str:
    """The text without what a tool put in front of each line, such as a time or a rank.

    The prefix is that of the first record; other lines may differ from it in digits and words.
    """
    if _RECORD.search(text):
        return text
    prefixed = _PREFIXED.search(text)
    if prefixed is None:
        return text
    kinds = {"d": r"\d+", "w": "[A-Za-z]+", "s": r"\s+"}
    pattern = "".join(
        kinds.get(token.lastgroup, re.escape(token[0])) for token in _TOKEN.finditer(prefixed[1])
    )
    return re.sub(f"^{pattern}", "", text, flags=re.MULTILINE)


def _run(hparams, text, path) -> Run:
    head = text[: found.start()] if (found := _RUN.search(text)) else ""
    about = {match[1]: _literal(match[2]) for match in _FIELD.finditer(head)}
    of_2017 = bool(hparams) and "legacy2017" not in hparams
    if of_2017:
        hparams = {**hparams, "legacy2017": True}
    notes = [] if hparams else ["no hyperparameters in it: task, estimator and seed are unknown"]
    # What is cut off comes after the last complete array.
    if _TORN.search(("\n" + text).rpartition("]")[2]):
        notes.append("the last line is cut off")
    seed = about.pop("seed", _seed(text))
    found = _records(text, of_2017 or not hparams)
    return make_run(path, "2017" if of_2017 else "stdout", hparams, about, seed, found, notes)


def _literal(text: str) -> Any:
    """The value of a Python literal, or the text itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _seed(text):
    """From the name of the run's folder."""
    match = _RUN.search(text)
    seed = _SEED.search(match[1]) if match else None
    return int(seed[1]) if seed else None


def _records(text, of_2017) -> list[dict]:
    """As in metrics.jsonl, as far as they were printed."""
    parsed = [r for r in records.parse_log(text) if r["step"] > 0]
    steps_per_epoch = next((r["step"] for r in parsed if r["values"]), None)
    result: dict[int, dict[str, Any]] = {}
    for one in parsed:
        record = result[one["step"]] = {"step": one["step"]}
        if steps_per_epoch:
            record["epoch"] = one["step"] / steps_per_epoch
        if one["values"]:
            record["elbo"] = one["values"][0]
        if one["log_variance"] is not None:
            record["log_variance"] = one["log_variance"]
        for name in ("valid", "test"):
            if one[name]:
                record[name] = one[name][0]
                record |= {"eval_samples": SAMPLES_2017} if of_2017 else {}
    for step, label, numbers in _measured(text):
        if step in result:
            result[step].setdefault("estimator_variance", {})[label] = numbers
    return [record for record in result.values() if len(record) > 1]


def _measured(text) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Step, label and numbers of each complete line "Variance ..."."""
    for match in _MEASURED.finditer(text):
        parts = [_PART.fullmatch(part) for part in match[3].split(", ")]
        if all(parts):
            yield int(match[1]), match[2], {part[1]: part[2] for part in parts}
