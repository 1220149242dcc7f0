"""What must hold for any input, one function a reader: each takes bytes and fails if it does not.

They are called by the tests beside, and by the coverage-guided run (`tests.fuzz.run`).
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from rebar.compare import reading, runs, tables
from rebar.compare.groups import comparisons
from rebar.errors import RebarError
from rebar.hparams import HParams, run_name
from rebar.runs import records
from rebar.runs.files import write_json
from rebar.sweep import grid, manifest

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def _text(data):
    return data.decode(errors="replace")


def _tried(function, *arguments):
    """What a function returns, and the text of its RebarError or None."""
    try:
        return function(*arguments), None
    except RebarError as error:
        return None, str(error)


def hparams(data: bytes) -> None:
    """A string is parsed, and what is printed parses back; or a RebarError says what is wrong."""
    text = _text(data)
    found, refused = _tried(HParams.parse, text)
    if refused:
        assert refused.startswith(f'cannot use --hparams="{text}"')
        return
    for everything in (False, True):
        assert HParams.parse(found.format(all=everything)) == found
    assert HParams.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert _SAFE.fullmatch(run_name(found, 0))


def sweep_grid(data: bytes) -> None:
    """A grid is expanded to valid points, or a RebarError says what is wrong."""
    points, _ = _tried(grid.points, [_text(data)])
    for hparams, strings in (points or {}).items():
        assert HParams.parse(*strings) == hparams


def log(data: bytes) -> None:
    """A log is read and what was read reads back from its print; or a RebarError names the line."""
    found, refused = _tried(records.parse_log, _text(data))
    if refused:
        assert re.match(r"line \d+ of the log, (Step|Valid|Test) \d+: ", refused)
        return
    steps = [record["step"] for record in found]
    assert steps == sorted(set(steps))
    for record in found:
        lines = []
        if record["values"] is not None:
            lines = [records.format_step(record["step"], record["values"])]
            if record["log_variance"] is not None:
                lines.append(records.format_log_variance(record["log_variance"]))
        for name in ("valid", "test"):
            if record[name] is not None:
                lines.append(records.format_eval(name.title(), record["step"], record[name]))
        (again,) = records.parse_log("\n".join(lines))
        assert again["log_variance"] == record["log_variance"] or "nan" in "".join(lines)
        for name in ("values", "valid", "test"):
            if record[name] is None:
                assert again[name] is None
            else:
                np.testing.assert_allclose(again[name], record[name], rtol=1e-6, atol=1e-8)


def captured(data: bytes) -> None:
    """Captured output is compared, or a RebarError says why not."""
    with _scratch() as root:
        (root / "captured.log").write_bytes(data)
        found, refused = _tried(reading.read, [str(root / "captured.log")])
    assert refused is None or "no run can be read" in refused
    _compare(found[0] if found else ())


def folder(data: bytes) -> None:
    """A run's folder, hparams.json and metrics.jsonl joined by a null, is compared or refused."""
    about, _, lines = data.partition(b"\0")
    with _scratch() as root:
        (root / "hparams.json").write_bytes(about)
        (root / "metrics.jsonl").write_bytes(lines)
        found, refused = _tried(reading.read, [str(root)])
        assert refused is None or "no run can be read" in refused
        _compare(found[0] if found else ())


def _compare(read):
    for run in read:
        if run.origin == "2017":
            run.origin = "stdout"  # so that no estimator is built
    if read:
        assert len(runs.frame(read))
    found = comparisons(read)
    for comparison in found:
        assert _SAFE.fullmatch(comparison.slug), comparison.slug
    if found:
        table = tables.rows(found, None)
        text = tables.to_markdown(found, table, [], [])
        assert text.count("\n| estimator |") == len(found)


def metrics(data: bytes) -> None:
    """metrics.jsonl is read and cut, or a RebarError names the line."""
    with _scratch() as root:
        file = records.MetricsFile(root / "metrics.jsonl")
        file.path.write_bytes(data)
        found, refused = _tried(file.read)
        if refused:
            assert re.search(r"line \d+ is not a record", refused)
            return
        file.truncate_after(2)
        assert file.read() == [record for record in found if record["step"] <= 2]
        file.append({"step": 3})
        assert file.read()[-1] == {"step": 3}


def sweep_manifest(data: bytes) -> None:
    """A manifest is read and written anew, or refused by a RebarError."""
    with _scratch() as root:
        (root / manifest.NAME).write_bytes(data)
        before, refused = _tried(manifest.read, root)
        if refused:
            assert "another --sweep_dir" in refused
            return
        write_json(root / manifest.NAME, before | {"runs": []})
        assert manifest.read(root)["runs"] == []


class _scratch:
    """An empty folder, in memory where there is such a place."""

    _shared = "/dev/shm" if Path("/dev/shm").is_dir() else None

    def __enter__(self):
        self._root = Path(tempfile.mkdtemp(dir=self._shared))
        return self._root

    def __exit__(self, *exception):
        shutil.rmtree(self._root)


TARGETS = {
    target.__name__: target
    for target in (
        hparams,
        sweep_grid,
        log,
        captured,
        folder,
        metrics,
        sweep_manifest,
    )
}
"""Name -> function."""
