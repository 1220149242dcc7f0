import contextlib
import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Before TensorFlow: submitit configures logging when imported, which makes absl's handler close the
# stream that was standard error when TensorFlow was imported. Here that is pytest's own.
with contextlib.suppress(ImportError):
    import submitit  # noqa: F401


@pytest.fixture
def own_registry(monkeypatch):
    """The registry; what a test registers is forgotten after it."""
    from rebar import registry

    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    return registry
