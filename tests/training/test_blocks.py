"""Many steps a call are exactly those steps, over every image once an epoch."""

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.training.blocks import Blocks

from . import tiny


@pytest.fixture
def short_blocks(monkeypatch):
    """Noise blocks of three steps."""
    monkeypatch.setattr(noise, "MAX_BLOCK_STEPS", 3)


class Watcher:
    """In place of a learner: its records show what each step was given, and nothing learns."""

    class Model:
        compute_dtype = "float32"

        def __init__(self, n_units):
            self.n_units = n_units

    def __init__(self, n_units=(2, 4), branches=False):
        self.model = self.Model(n_units)
        self.estimator = Estimator()
        self.estimator.branches = branches
        self.seen = []
        self.blocks = []

    def begin_block(self):
        self.blocks.append(len(self.seen))

    def step(self, x, latents):
        def keep(*given):
            self.seen.append([v.numpy() for v in given])

        # Estimators may look at shapes while the graph is built.
        branches = tf.nest.flatten(latents.branches)
        assert all(v.shape.is_fully_defined() for v in (x, *latents.uniforms, *branches))
        tf.py_function(keep, [x, *latents.uniforms, *branches], [])
        code = tf.reduce_sum(x[0] * 2.0 ** tf.range(float(x.shape[1])))
        number = latents.uniforms[0][0, 0]
        metrics = {"elbo": float(x.shape[0]), "image": code, "noise": number}
        return metrics, {"": -number}, tf.cast(code, tf.int32)


def advance(runner, step, last, most=10**9):
    """Take the steps from `step` to `last` in the largest calls allowed, of `most` steps."""
    taken = []
    while step < last:
        count = runner.next_count(step, min(last - step, most))
        taken.append(runner.take(step, count))
        step += count
    return taken


def table(taken):
    """Everything recorded, a row a step."""
    return np.concatenate([np.column_stack([t.table, t.wrong]) for t in taken])


def watch(train, steps, batch_size=4, n_samples=1, seed=0, n_units=(2, 4), dynamic=False):
    """What each of the first `steps` steps was given: x, then the noise of each layer."""
    watcher = Watcher(n_units)
    advance(Blocks(watcher, train, batch_size, n_samples, seed, dynamic=dynamic), 0, steps)
    return watcher.seen


def codes(x):
    """One integer an image."""
    return x.astype(int) @ (1 << np.arange(x.shape[1]))


@pytest.mark.parametrize(
    ("hparams", "n_samples", "dynamic"),
    [("n_layer=2", 1, False), ("n_layer=1,model=SBN", 2, True)],
)
def test_many_steps_a_call_are_those_steps_one_by_one(short_blocks, hparams, n_samples, dynamic):
    train = tiny.images(18) * np.float32(0.7) if dynamic else tiny.images(18)
    learner = tiny.learner(hparams)
    runner = Blocks(learner, train, 4, n_samples, dynamic=dynamic)
    initial = tiny.values(learner)
    results = []
    for most in (1, 2, 10**9):
        for name, variable in learner.named_variables().items():
            variable.assign(initial[name])
        taken = advance(runner, 0, 13, most)
        results.append((len(taken), table(taken), tiny.values(learner)))
        assert learner.steps == 13
    assert [calls for calls, _, _ in results] == [13, 10, 7]
    for _, records, variables in results[1:]:
        np.testing.assert_array_equal(records, results[0][1])
        tiny.assert_same(variables, results[0][2])
    assert len(np.unique(results[0][1][:, 0])) == 13


@pytest.mark.parametrize("branches", [False, True])
@pytest.mark.parametrize("first", [1, 2, 5, 7])
def test_a_new_process_goes_on_at_any_step(short_blocks, first, branches):
    """Images and noise are those of a run from the start, also within a noise block."""
    train, units = tiny.images(18), (2, 4, 3)
    whole, part = Watcher(units, branches), Watcher(units, branches)
    advance(Blocks(whole, train, 4), 0, 10)
    advance(Blocks(part, train, 4), first, 10)
    assert len(part.seen) == 10 - first
    for expected, seen in zip(whole.seen[first:], part.seen, strict=True):
        for a, b in zip(expected, seen, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("most", [1, 2, 10**9])
def test_blocks_begin_at_the_same_steps_however_many_a_call_takes(short_blocks, most):
    """Five minibatches an epoch in blocks of three: rounding must not depend on the calls."""
    watcher = Watcher()
    advance(Blocks(watcher, tiny.images(18), 4), 0, 10, most)
    assert watcher.blocks == [0, 3, 5, 8]


def test_records_are_those_of_the_steps_in_order(short_blocks):
    watcher = Watcher()
    taken = advance(Blocks(watcher, tiny.images(18), 4), 0, 10)
    joined = {name: tiny.column(taken, name) for name in taken[0].metrics}
    assert list(joined) == ["elbo", "image", "noise"]
    np.testing.assert_array_equal(joined["elbo"], [len(x) for x, *_ in watcher.seen])
    np.testing.assert_array_equal(joined["image"], [codes(x)[0] for x, *_ in watcher.seen])
    np.testing.assert_array_equal(joined["noise"], [u[0, 0] for _, u, _ in watcher.seen])
    wrong = np.concatenate([t.wrong for t in taken])
    np.testing.assert_array_equal(wrong, [codes(x)[0] for x, *_ in watcher.seen])
    np.testing.assert_array_equal(tiny.column(taken, ""), -joined["noise"])


def test_a_call_stays_within_a_noise_block_and_within_the_full_minibatches(short_blocks):
    runner = Blocks(Watcher(), tiny.images(30), 4)  # 7 full minibatches and one of 2
    assert runner.steps_per_epoch == 8
    counts = {step: runner.next_count(step, 100) for step in range(16)}
    for epoch in (0, 8):
        assert [counts[epoch + i] for i in range(8)] == [3, 2, 1, 3, 2, 1, 1, 1]
    assert runner.next_count(0, 2) == 2
    exact = Blocks(Watcher(), tiny.images(8), 4)
    assert exact.steps_per_epoch == 2
    assert [exact.next_count(step, 100) for step in range(4)] == [2, 1, 2, 1]


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    train = tiny.images(10)
    seen = [codes(x) for x, *_ in watch(train, 9)]
    assert [len(x) for x in seen] == [4, 4, 2] * 3
    epochs = [np.concatenate(seen[i : i + 3]) for i in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(codes(train))
    others = [
        np.concatenate([codes(x) for x, *_ in watch(train, 3, seed=seed)]) for seed in (1, (0, 2))
    ]
    orders = {tuple(order) for order in (codes(train), *epochs, *others)}
    assert len(orders) == 6


def test_noise_differs_between_steps_layers_seeds_and_trials(short_blocks):
    """An epoch is a block of three steps, one of a full step and the smaller last one."""
    train = tiny.images(18)
    runs = [watch(train, 10, n_samples=2, seed=s, n_units=(2, 2)) for s in ((0, 1), (0, 2), (1, 1))]
    numbers = [u for seen in runs for _, *uniforms in seen for u in uniforms]
    assert [u.shape for u in numbers[:10]] == [(8, 2)] * 8 + [(4, 2)] * 2
    everything = np.concatenate([u.ravel() for u in numbers])
    assert everything.min() > 0
    assert everything.max() < 1
    # Among 864 of 2^23 numbers, some pair is equal by chance with probability 0.04.
    assert len(everything) == len(np.unique(everything)) == 864
    again = watch(train, 10, n_samples=2, seed=(0, 1), n_units=(2, 2))
    for (_, *first), (_, *second) in zip(runs[0], again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_branches_leave_the_noise_of_the_main_chain_as_it_is(monkeypatch):
    """Where they would make blocks shorter, too: the main chain alone sets their length."""
    monkeypatch.setattr(noise, "_MAX_BLOCK_ELEMENTS", 3 * 4 * 12)
    train, units = tiny.images(18), (4, 4, 4)
    plain, branched = Watcher(units), Watcher(units, branches=True)
    for watcher in (plain, branched):
        advance(Blocks(watcher, train, 4), 0, 10)
    assert branched.blocks == plain.blocks == [0, 3, 5, 8]
    numbers = []
    for (*first,), (*second,) in zip(plain.seen, branched.seen, strict=True):
        assert len(first) == 1 + 3
        assert len(second) == 1 + 3 + 3
        for a, b in zip(first, second[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        assert [u.shape for u in second[4:]] == [(len(second[0]), 4)] * 3
        numbers += [u.ravel() for u in second[1:]]
    numbers = np.concatenate(numbers)
    # Among 864 of 2^23 numbers, some pair is equal by chance with probability 0.04.
    assert len(np.unique(numbers)) == len(numbers) == 864
    assert 0 < numbers.min() < numbers.max() < 1


def test_branches_reach_the_estimator_in_their_places():
    """A step of a block, and the estimate from its noise, put together by hand."""
    train = tiny.images(8)
    settings = "model=SBNDisARM,n_layer=3,continuation=independent,learning_rate=1e-30"
    learner = tiny.learner(settings)
    (records,) = advance(Blocks(learner, train, 8), 0, 1)
    watcher = Watcher(learner.model.n_units, branches=True)
    advance(Blocks(watcher, train, 8), 0, 1)
    ((x, *uniforms),) = watcher.seen
    latents = noise.Noise(
        tuple(map(tf.constant, uniforms[:3])),
        branches=noise.group_branches(list(map(tf.constant, uniforms[3:])), 3),
    )
    estimate = learner.estimator.estimate(learner.model, tf.constant(x), latents)
    np.testing.assert_allclose(
        tiny.column([records], "elbo"), [np.mean(estimate.objective)], rtol=1e-6
    )
    first = [v for v in learner.optimizer.variables if v.path.endswith("_momentum")]
    for m, g in zip(first, estimate.gradients, strict=True):
        np.testing.assert_allclose(m, 0.1 * g, rtol=1e-4, atol=1e-6)


def test_the_last_smaller_minibatch_is_used():
    """Each minibatch's record is the ELBO of its own images, however few."""
    train = tiny.images(5)
    learner = tiny.learner("learning_rate=1e-30")
    (records,) = advance(Blocks(learner, train, 4), 0, 1)
    rest = Blocks(learner, train, 4).take(1, 1)
    seen = watch(train, 2, n_units=learner.model.n_units)
    for record, (x, *uniforms) in zip((records, rest), seen, strict=True):
        estimate = learner.estimator.estimate(
            learner.model, tf.constant(x), noise.Noise(tuple(map(tf.constant, uniforms)))
        )
        expected = np.mean(estimate.objective)
        np.testing.assert_allclose(tiny.column([record], "elbo"), [expected], rtol=1e-6)
    assert [len(x) for x, *_ in seen] == [4, 1]


def test_dynamic_binarization_draws_anew_each_time():
    grey = np.tile(np.array([0.0, 1.0, 0.5, 0.25], np.float32), [200, 1])
    seen = [x for x, *_ in watch(grey, 6, batch_size=100, dynamic=True)]  # 3 epochs
    for x in seen:
        assert set(np.unique(x)) == {0.0, 1.0}
        assert np.all(x[:, 0] == 0)
        assert np.all(x[:, 1] == 1)
    draws = np.stack([x[:, 2:] for x in seen])
    for i in range(6):
        for j in range(i):
            assert np.mean(draws[i] != draws[j]) > 0.2
    # 600 draws a pixel: 5 standard errors are 0.10 and 0.09.
    np.testing.assert_allclose(draws.mean(axis=(0, 1)), [0.5, 0.25], atol=0.1)


def test_grey_images_stay_grey_unless_told_to_be_binarized():
    grey = np.tile(np.array([0.0, 1.0, 0.5, 0.25], np.float32), [20, 1])
    for x, *_ in watch(grey, 2, batch_size=10):
        np.testing.assert_array_equal(x, grey[:10])


def test_a_training_set_smaller_than_a_minibatch():
    seen = watch(tiny.images(3), 4, batch_size=24)
    assert [len(x) for x, *_ in seen] == [3] * 4
    assert all(sorted(codes(x)) == sorted(codes(tiny.images(3))) for x, *_ in seen)


def test_an_empty_training_set_is_refused():
    with pytest.raises(RebarError, match="training set is empty"):
        Blocks(Watcher(), tiny.images(0), 4)


def test_a_last_minibatch_of_one_row_stays_finite_with_leave_one_out():
    learner = tiny.learner("model=SBN")
    taken = advance(Blocks(learner, tiny.images(5), 4), 0, 4)
    assert np.all(np.isfinite(table(taken)))
    assert all(np.all(t.wrong < 0) for t in taken)


def test_compiled_steps_equal_interpreted_ones_to_rounding():
    """Full minibatches are compiled, the smaller last one is not."""
    train = tiny.images(10)
    results = []
    for jit in (False, True):
        learner = tiny.learner()
        taken = advance(Blocks(learner, train, 4, jit=jit), 0, 6)
        results.append((table(taken), tiny.values(learner)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=2e-4, atol=1e-6)
    tiny.assert_same(results[1][1], results[0][1], rtol=2e-3, atol=2e-5)


def test_a_metric_with_a_name_of_training_is_refused():
    learner = tiny.learner()
    estimate = learner.estimator.estimate
    learner.estimator.estimate = lambda *arguments: estimate(*arguments)._replace(
        metrics={"epoch": 1.0}
    )
    blocks = Blocks(learner, tiny.images(8), 4)
    with pytest.raises(RebarError, match=r"metrics named epoch: .* rename"):
        blocks.take(0, 1)
