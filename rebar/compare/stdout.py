"""Runs from captured standard output: of our train command, or of the 2017 script.

Both print the hyperparameters as a dict first and the same lines after it; ours say more between
the dict and "run: <folder>". A file may hold several runs, and a run that was resumed prints its
dict again.
"""

import re
from collections.abc import Iterator
from typing import Any

from rebar.compare import sound
from rebar.compare.runs import RunLog, fill, is_number
from rebar.runs import records

# No pattern looks at a line more than a few times: a file may have one line of 2**28 characters.
_BRACES = re.compile(r"^\{.+\}[ \t]*$", re.MULTILINE)
_MODEL = re.compile(r"['\"]model['\"]: ")
_ABOUT = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
_SEED = re.compile(r"-s([0-9]{1,18})-[0-9a-f]{10}/?$")
_TORN = re.compile(r"\n(?:Step|Valid|Test) \d+:")
_MEASURED = re.compile(r"^Variance ([0-9]{1,15}) (.+)$", re.MULTILINE)
_PRICE = re.compile(r"(\S+) evaluations of f, \S+ ms")
_PART = re.compile(r"(\w+) (\S+) \+- \S+")
_RECORD = re.compile(r"^Step [0-9]{1,15}: \[", re.MULTILINE)
_PREFIXED = re.compile(r"^(.{1,200}?)Step [0-9]{1,15}: \[", re.MULTILINE)
_TOKEN = re.compile(r"(?P<d>\d+)|(?P<w>[A-Za-z]+)|(?P<s>\s+)|.")
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
      RebarError: an array holds something that is not a number, the dict something that is no
        hyperparameter.
    """
    text = _without_prefix(text.replace("\r\n", "\n"))
    pieces: list[tuple[dict[str, Any], str]] = []
    starts = [match for match in _BRACES.finditer(text) if _MODEL.search(match[0])]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends, strict=False):
        given = sound.literal(match[0].strip())
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


def _run(given, text, path) -> RunLog:
    printed = {
        match[1]: sound.literal(match[2])
        for match in _ABOUT.finditer(text.partition("\nrun: ")[0] if "\nrun: " in text else "")
    }
    about, left_out = sound.about(printed)
    ours = "legacy2017" in given
    hparams = fill(given, path) if given else {}
    if given and not ours:
        hparams |= {"legacy2017": True}
    # What is cut off comes after the last array that is whole.
    notes = ["the last line is cut off"] if _TORN.search(("\n" + text).rpartition("]")[2]) else []
    if left_out:
        notes.append(f"{', '.join(left_out)} cannot be read and were passed over")
    if not given:
        notes.append("no hyperparameters in it: task, estimator and seed are not known")
    origin = "stdout" if ours or not given else "2017"
    return RunLog(
        path,
        origin,
        hparams,
        about,
        sound.seed(about.pop("seed", _seed(text))),
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
    for step, label, numbers in _measured(text):
        if step in by_step:
            by_step[step].setdefault("estimator_variance", {})[label] = numbers
    return [record for record in map(sound.record, result) if record]


def _measured(text) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Step, label and numbers of each line "Variance ..." that is whole."""
    for match in _MEASURED.finditer(text):
        label, _, rest = match[2].partition(": ")
        parts, _, price = rest.partition("; ")
        found = [_PART.fullmatch(part) for part in parts.split(", ")]
        priced = _PRICE.match(price)
        if not (sound.is_name(label) and priced and all(found)):
            continue
        try:
            numbers = {part[1]: float(part[2]) for part in found}
            evaluations = float(priced[1])
        except ValueError:
            continue
        if is_number(evaluations):
            yield int(match[1]), label, {**numbers, "evaluations": evaluations}
