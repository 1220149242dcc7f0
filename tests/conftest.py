import contextlib
import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Operations of the tests are so small that sharing one among threads only costs time.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# Before TensorFlow: submitit configures logging when imported, which makes absl's handler close the
# stream that was standard error when TensorFlow was imported. Here that is pytest's own.
with contextlib.suppress(ImportError):
    import submitit  # noqa: F401

FAST = (
    *("core/test_gradients.py", "core/test_bernoulli.py", "core/test_categorical.py"),
    *("core/test_enumeration.py", "core/test_golden_straight_through.py"),
    *("conformance/test_exact.py", "compare/test_reading.py", "data/test_validation.py"),
    *("estimators/test_golden_2017.py::test_estimate", "estimators/test_golden_disarm.py"),
    *("functional/test_mistakes.py", "hparams/", "runs/test_printer.py", "runs/test_records.py"),
    *("runs/test_checkpoint.py", "sweep/test_grid.py", "test_factory.py", "test_registry.py"),
    *("test_structure.py", "training/test_moments.py", "training/test_optimizers.py"),
)
"""Beginnings of the names of the tests that -m fast selects."""


def pytest_collection_modifyitems(items):
    """Mark the fast tests."""
    beginnings = tuple(f"tests/{name}" for name in FAST)
    for item in items:
        if item.nodeid.startswith(beginnings):
            item.add_marker("fast")


def pytest_make_parametrize_id(val, argname):
    """Name contents of files by their argument: gzip and MATLAB files contain the time."""
    return argname if isinstance(val, bytes) and len(val) > 40 else None


@pytest.fixture
def own_registry(monkeypatch):
    """The registry; what a test registers, also tasks, is forgotten after it."""
    from rebar import registry
    from rebar.data import sources

    tasks = dict(sources.TASKS)
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    yield registry
    sources.TASKS.clear()
    sources.TASKS.update(tasks)
