"""Checkpoints that are kept at chosen epochs."""

import numpy as np

from rebar.runs import checkpoint

from . import tiny

DATA = tiny.dataset(n_train=10)  # 3 steps an epoch


def train(folder, **settings):
    """Learner after a run."""
    run = tiny.run(folder, DATA, **settings)
    assert run.train() is None
    return run.learner


def test_what_is_kept_is_what_a_shorter_run_ends_with(tmp_path):
    train(tmp_path / "a", training_steps=11, keep_epochs=(1, 3, 4))
    kept = tmp_path / "a" / "snapshots"
    assert sorted(path.name for path in kept.iterdir()) == ["epoch-1", "epoch-3"]
    for epoch in (1, 3):
        short = train(tmp_path / str(epoch), epochs=epoch)
        found = checkpoint.latest(kept / f"epoch-{epoch}")
        assert found.step == 3 * epoch
        for name, value in tiny.values(short).items():
            np.testing.assert_array_equal(found.variables[name], value)


def test_keeping_changes_nothing(tmp_path):
    with_, without = (
        tiny.values(train(tmp_path / str(keep), training_steps=8, keep_epochs=keep))
        for keep in ((1, 2), ())
    )
    tiny.assert_same(with_, without)
    assert not (tmp_path / "()" / "snapshots").exists()
