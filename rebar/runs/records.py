"""Records of a run: printed lines and metrics.jsonl.

The printed lines are those of the 2017 script, so that one reader serves both:

    Step 2084: [-231.026474  0.3711713  1.  1.06934261  1.07023323]
    -3.6465678215

    Valid 41680: [-120.5  -121.3  0.15]
    Test 41680: [-120.1  -120.9  0.15]

A Step line holds the means of the objective and the metrics over the epoch; the logarithm of the
mean gradient variance follows. A run that tracks several methods prints one pair per method
instead, sorted by name: `('DynamicREBAR', -3.725339889526367)`. The 2017 script wrapped arrays.
Measured conditional variances follow on one line per estimator.
"""

import ast
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rebar.errors import RebarError
from rebar.runs.files import cannot_write, write_file

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)"
_ARRAY = re.compile(r"^(Step|Valid|Test) ([0-9]{1,15}): \[([^\[\]]*)\][ \t]*$", re.MULTILINE)
_VARIANCE = re.compile(rf"\n({_NUMBER})[ \t]*(?=\n|\Z)")
# The label is text as repr writes it. A scalar in a tuple prints as np.float32(...) under NumPy 2.
_ESCAPE = r"\\(?:[\\'nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"
_TEXT = rf"'(?:[^'\\\n]|{_ESCAPE})*'|\"(?:[^\"\\\n]|{_ESCAPE})*\""
_TRACKED = re.compile(rf"\n\(({_TEXT}), (?:np\.float\d+\()?({_NUMBER})\)+[ \t]*(?=\n|\Z)")

_MEASURED = re.compile(
    r"^Variance ([0-9]{1,15}) (.{1,200}?): ([^;\n]+); \S+ evaluations of f, ", re.MULTILINE
)
_PART = re.compile(rf"(\w+) ({_NUMBER}) \+- ")
_PRINTED = ("values", "log_variance", "valid", "test", "estimator_variance")


def format_values(values: Sequence[float]) -> str:
    """Numbers as NumPy prints an array (at most 8 decimals), always on one line."""
    options = {"precision": 8, "suppress_small": False, "sign": "-", "floatmode": "maxprec"}
    unlimited = {"max_line_width": sys.maxsize, "threshold": sys.maxsize}
    return np.array2string(np.asarray(values, dtype=np.float64), **options, **unlimited)


def format_step(step: int, values: Sequence[float]) -> str:
    """The line of an epoch: "Step 2084: [...]"; `values` are means, the objective first."""
    return f"Step {step}: {format_values(values)}"


def format_log_variance(log_variance: float | Mapping[str, float]) -> str:
    """The lines after a Step line: one float, or one pair per tracked method, sorted by name."""
    if isinstance(log_variance, Mapping):
        return "\n".join(str((name, float(log_variance[name]))) for name in sorted(log_variance))
    return str(float(log_variance))


def format_eval(name: str, step: int, values: Sequence[float]) -> str:
    """The line of an evaluation, "Valid 41680: [...]" or "Test 41680: [...]", the bound first.

    As in 2017, an empty line precedes Valid and follows Test.
    """
    line = f"{name} {step}: {format_values(values)}"
    return {"Valid": f"\n{line}", "Test": f"{line}\n"}[name]


def format_estimator_variance(step: int, label: str, record: Mapping[str, Any]) -> str:
    """The line of a measured variance: "Variance 2084 DisARM: ..."."""
    errors, product = record["standard_error"], record["times_evaluations"]
    parts = ", ".join(f"{n} {record[n]:.4g} +- {errors[n]:.1g}" for n in errors)
    products = ", ".join(f"{n} {product[n]:.4g}" for n in ("total", "q") if n in product)
    return (
        f"Variance {step} {label}: {parts}; {record['evaluations']:.10g} evaluations of f, "
        f"{record['milliseconds']:.3g} ms (measured); variance x evaluations: {products}"
    )


def parse_log(text: str) -> list[dict[str, Any]]:
    """Parse printed lines, of rebar or of the 2017 script.

    Args:
      text: captured standard output; other lines, and an array cut off at the end, are skipped.

    Returns:
      By step, {"step": int, "values": list of float, "log_variance": float or {method: float},
      "valid": list, "test": list, "estimator_variance": {label: {part: float}}}, with None for what
      was not printed. If a step was printed twice, as after a resume, the later values count.

    Raises:
      RebarError: an array contains something that is not a number; names the line.
    """
    text = text.replace("\r\n", "\n")
    records: dict[int, dict[str, Any]] = {}
    for match in _ARRAY.finditer(text):
        kind, step = match[1], int(match[2])
        try:
            values = [float(word) for word in match[3].split()]
        except ValueError as error:
            line = text.count("\n", 0, match.start()) + 1
            raise RebarError(f"line {line} of the log, {kind} {step}: {error}") from None
        record = records.setdefault(step, {"step": step, **dict.fromkeys(_PRINTED)})
        if kind == "Step":
            record["values"] = values
            record["log_variance"] = _log_variance_at(text, match.end())
        else:
            record[kind.lower()] = values
    for match in _MEASURED.finditer(text):
        parts = {part[1]: float(part[2]) for part in _PART.finditer(match[3])}
        if record := records.get(int(match[1])):
            record["estimator_variance"] = (record["estimator_variance"] or {}) | {match[2]: parts}
    return [records[step] for step in sorted(records)]


def _log_variance_at(text: str, position: int) -> float | dict[str, float] | None:
    """The log variance printed on the line or lines that start after `position`."""
    single = _VARIANCE.match(text, position)
    if single:
        return float(single[1])
    tracked = {}
    while pair := _TRACKED.match(text, position):
        try:
            label = ast.literal_eval(pair[1])
        except (ValueError, SyntaxError):  # an escape of no character, a null
            break
        tracked[label] = float(pair[2])
        position = pair.end()
    return tracked or None


class MetricsFile:
    """metrics.jsonl: one strict JSON object per line, each on disk before `append` returns.

    Non-finite numbers become null.
    """

    def __init__(self, path: str | os.PathLike):
        """Neither read nor write yet; the file need not exist, its folder must."""
        self.path = Path(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it must have "step". NumPy and TensorFlow values become plain numbers.

        Raises:
          RebarError: it cannot be written; names path and reason.
        """
        line = json.dumps(plain({"step": None, **record}), allow_nan=False) + "\n"
        try:
            with open(self.path, "ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def read(self) -> list[dict[str, Any]]:
        """All records in order; a line cut off at the end is skipped. [] without a file.

        Raises:
          RebarError: the file cannot be read, or a line before the last is not a record.
        """
        return [record for _, record in self._lines()]

    def _lines(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Lines that are records, and their content."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RebarError(f"cannot read {self.path}: {error.strerror}") from error
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                # NaN and Infinity, which are not strict JSON, are a ValueError of int.
                record = json.loads(line, parse_constant=int)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and type(record.get("step")) is int:
                records.append((line, record))
            elif number < len(lines):
                raise RebarError(
                    f"{self.path}, line {number} is not a record: {line[:60]!r}; "
                    "fix or delete that line"
                )
        return records

    def truncate_after(self, step: int) -> int:
        """Drop the records beyond `step` and a line cut off at the end; return their number.

        Call it before the first `append` of a run, with the checkpoint's step, 0 without one.
        """
        kept = [line + b"\n" for line, record in self._lines() if record["step"] <= step]
        present = self.path.read_bytes() if self.path.exists() else b""
        if present != b"".join(kept):
            write_file(self.path, b"".join(kept))
        return len(present.splitlines()) - len(kept)


def plain(value: Any) -> Any:
    """Convert a value for JSON; non-finite numbers become None."""
    text = json.dumps(value, default=lambda array: np.asarray(array).tolist())
    return json.loads(text, parse_constant=lambda name: None)
