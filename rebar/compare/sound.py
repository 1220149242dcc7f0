"""What of a log can be used: numbers where numbers belong, names where names do.

A log may be torn, edited, or of another program: what is not as a run writes it is left out, so
that the rest of the package can rely on what is there.
"""

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

from rebar.compare.runs import is_number

_MOST_DIGITS = 18
_MOST_STEP = 2**53


def from_json(text: str | bytes) -> Any:
    """The value that JSON text says; whole numbers beyond 18 digits as floats.

    Raises:
      ValueError: it is no JSON, or nested too deep to be a log's.
    """
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def literal(text: str) -> Any:
    """The value of a Python literal, or the text itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def is_name(value: Any) -> bool:
    """Whether it is text for a table or a title, of any length that a run writes."""
    return isinstance(value, str) and value != "" and value.isprintable()


def record(found: Any) -> dict[str, Any] | None:
    """A record as metrics.jsonl has it, without what cannot be used; None if it has no step."""
    step = found.get("step") if isinstance(found, Mapping) else None
    if not _is_whole(step) or not 0 < step < _MOST_STEP:
        return None
    result = dict(found)
    for name, clean in (("log_variance", _numbers), ("estimator_variance", _tables)):
        if name in result:
            result[name] = clean(result[name])
            if result[name] == {}:
                del result[name]
    if not _is_whole(result.get("eval_samples", 0)):
        del result["eval_samples"]
    return result


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value):
    """A number or None, or a table of these by name; {} if it is neither."""
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if is_name(k) and _is_number_or_none(v)}
    return value if _is_number_or_none(value) else {}


def _is_number_or_none(value):
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _tables(value):
    """Label -> tables of numbers, in which tables may stand."""
    if not isinstance(value, Mapping):
        return {}
    found = {k: _table(v) for k, v in value.items() if is_name(k) and isinstance(v, Mapping)}
    return {label: table for label, table in found.items() if table}


def _table(value):
    inner = {k: _numbers(v) for k, v in value.items() if is_name(k)}
    return {k: v for k, v in inner.items() if v != {}}


def seed(value: Any) -> int | None:
    """A seed, None if it is none."""
    return value if _is_whole(value) else None


def about(found: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields of hparams.json beside the hyperparameters, and the names of those left out."""
    result, left_out = {}, []
    for name, value in found.items():
        if name in _ABOUT and not (value is None or _ABOUT[name](value)):
            left_out.append(name)
        elif is_name(name):
            result[name] = value
    return result, left_out


def _is_schedule(value):
    return isinstance(value, Mapping) and all(
        v is None or is_number(v) or name not in ("training_steps", "epochs", "eval_samples")
        for name, v in value.items()
    )


def _is_facts(value):
    return isinstance(value, Mapping) and all(
        is_name(label)
        and isinstance(facts, Mapping)
        and isinstance(facts.get("unbiased"), bool | None)
        and (facts.get("evaluations") is None or is_number(facts["evaluations"]))
        for label, facts in value.items()
    )


_ABOUT = {
    "label": is_name,
    "network": is_name,
    "coupling": is_name,
    "data": is_name,
    "unbiased": lambda value: isinstance(value, bool),
    "estimators": _is_facts,
    "schedule": _is_schedule,
}
"""What fields that are used here must be."""
