"""Every number that a run reports, recomputed from what its steps saw and from the data set.

Pixels, permutations, noise, gradients, updates, moments, bounds, variances and counts are computed
again, in NumPy or by the literal formulas.
"""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from rebar import noise
from tests.conformance import recorded_run
from tests.conformance.literal import models, optimizers
from tests.conformance.recorded_run import BATCH, CASES, DRAWS, EPOCHS, EVAL_SAMPLES


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Train a case once, and return what it reported and what its estimators saw."""
    runs = {}

    def train(case, seed=7, epochs=EPOCHS, eval_freq=1, variance_freq=EPOCHS):
        arguments = (case, seed, epochs, eval_freq, variance_freq)
        if arguments not in runs:
            runs[arguments] = recorded_run.train(tmp_path_factory.mktemp("run"), *arguments)
        return runs[arguments]

    return train


@pytest.fixture(scope="module")
def replay_of(run_of):
    """The same run computed again: values and gradients of each step, by label."""
    replays = {}

    def replay(case):
        if case not in replays:
            run = run_of(case)
            copy = recorded_run.Copy(run)
            replays[case] = SimpleNamespace(
                run=run,
                copy=copy,
                f={
                    label: [copy.values(label, call) for call in calls]
                    for label, calls in run.steps.items()
                },
                gradients={
                    label: [copy.gradients(label, run.names[label], call) for call in calls]
                    for label, calls in run.steps.items()
                },
            )
        return replays[case]

    return replay


def followed(run) -> str:
    """Label of the estimator that trains the model."""
    return run.h.follow if run.h.entry.tracks else run.h.entry.label


def epochs_of(values) -> list:
    """Values of the steps of each epoch."""
    size = len(values) // EPOCHS
    return [values[i * size : (i + 1) * size] for i in range(EPOCHS)]


@pytest.mark.parametrize("case", CASES)
def test_a_run_trains_on_the_pixels_of_its_data_set(case, run_of):
    run = run_of(case)
    train, calls = run.data[0], run.steps[followed(run)]
    sizes = [len(call.x) for call in calls]
    assert sizes == [BATCH, BATCH, len(train) - 2 * BATCH] * EPOCHS
    orders = [noise.permutation(run.seed, epoch, len(train)) for epoch in range(EPOCHS)]
    assert all(sorted(order) == [*range(len(train))] for order in orders)
    assert np.any(orders[0] != orders[1])
    x, p = np.concatenate([call.x for call in calls]), train[np.concatenate(orders)]
    if not run.h.dynamic_b:
        np.testing.assert_array_equal(x, p)
        return
    # Binary, with the gray values as probabilities.
    assert np.all((x == 0) | (x == 1))
    assert np.all(x[p == 0] == 0)
    assert np.all(x[p == 1] == 1)
    variance = p * (1 - p)
    assert abs(np.sum(x - p)) < 6 * np.sqrt(np.sum(variance))
    # Drawn anew at each step, and in each epoch: places of a minibatch are uncorrelated, and so
    # are the pixels of an image.
    images = np.concatenate([len(train) * i + np.argsort(order) for i, order in enumerate(orders)])
    starts = np.cumsum([0, *sizes])
    pairs = [(images[: len(train)], images[len(train) :])]
    for i, j in itertools.combinations(range(len(calls)), 2):
        rows = np.arange(min(sizes[i], sizes[j]))
        pairs.append((starts[i] + rows, starts[j] + rows))
    for i, j in pairs:
        covariance = np.sum((x - p)[i] * (x - p)[j])
        assert abs(covariance) < 6 * np.sqrt(np.sum(variance[i] * variance[j]))


def first_numbers(call) -> list:
    """One number of each tensor of uniforms of a call."""
    return [float(u[0, 0]) for u in tf.nest.flatten([call.uniforms, call.branches])]


@pytest.mark.parametrize("case", CASES)
def test_all_noise_of_a_run_is_different(case, run_of):
    """That of steps, epochs, measurements, evaluations, samples and further draws."""
    run = run_of(case)
    h, label = run.h, followed(run)
    numbers, keys = [], []
    # A measurement starts with a draw whose noise comes first.
    for call in [*run.steps[label], *run.measured[label]]:
        numbers += first_numbers(call)
        keys.append(tuple(call.key))
        rows = h.n_samples * len(call.x)
        assert [len(u) for u in call.uniforms] == [rows] * len(call.uniforms)
        shape = call.uniforms[0].shape
        for key in [call.key, *(noise.fold_in(call.key, i) for i in (0, 1))]:
            numbers.append(float(noise.uniforms(key, shape)[0, 0]))
    for call in run.evaluated:
        keys.append(tuple(call.key))
    # The noise of an evaluation is the same at each evaluation, but differs between image sets.
    sets = len(run.evaluated) // EPOCHS
    assert sets == 2
    assert keys[-4:-2] == keys[-2:]
    numbers += [n for call in run.evaluated[:sets] for n in first_numbers(call)]
    assert len(set(keys[:-2])) == len(keys[:-2])
    assert len(set(numbers)) == len(numbers)
    u = np.concatenate([np.ravel(u) for call in run.steps[label] for u in call.uniforms])
    assert abs(np.mean(u) - 0.5) < 6 / np.sqrt(12 * len(u))
    # Estimators side by side see the same noise.
    for other in run.steps.values():
        for a, b in zip(other, run.steps[label], strict=True):
            for u, v in zip([a.x, *a.uniforms], [b.x, *b.uniforms], strict=True):
                np.testing.assert_array_equal(u, v)


def test_the_seed_and_the_trial_change_everything(run_of):
    alone = "model=SBNNVIL,dynamic_b=true,n_layer=2,n_samples=2,trial="
    runs = [run_of("track"), run_of(f"{alone}3", 3, 1, 0, 0), run_of(f"{alone}8", 7, 1, 0, 0)]
    assert [run.seed for run in runs] == [(7, 3), (3, 3), (7, 8)]
    calls = [run.steps["NVIL"][0] for run in runs]
    for i, a in enumerate(calls):
        for b in calls[:i]:
            assert np.mean(a.x == b.x) < 0.9
            assert first_numbers(a) != first_numbers(b)
            assert tuple(a.key) != tuple(b.key)
            for u, v in zip(a.weights[0] + a.weights[1], b.weights[0] + b.weights[1], strict=True):
                assert u.ndim < 2 or not np.any(u == v)


@pytest.mark.parametrize("case", CASES)
def test_the_steps_descend_the_gradients_of_the_formula(case, replay_of):
    """Weights of each step, and those of the checkpoint, follow from the step before."""
    replay = replay_of(case)
    run, label = replay.run, followed(replay.run)
    model = replay.copy.model
    checks = [
        (label, 0, [optimizers.of_variable(v, model, run.h) for v in model.trainable_variables])
    ]
    for other in run.names:
        n = len(run.steps[other][0].weights[1])
        checks.append((other, 1, [optimizers.of_control(run.h)] * n))
    members = run.loaded.estimator.members(run.h.entry.label)
    for name, part, updates in checks:
        owner = run.loaded.model if part == 0 else members[name]
        last = [v.numpy() for v in owner.trainable_variables]
        weights = [call.weights[part] for call in run.steps[name]] + [last]
        gradients = [g[part] for g in replay.gradients[name]]
        for t in range(len(gradients)):
            for i, update in enumerate(updates):
                history = [g[i] for g in gradients[: t + 1]]
                expected = update(weights[t][i].astype(np.float64), history)
                rate = np.max(np.abs(expected - weights[t][i]))
                np.testing.assert_allclose(weights[t + 1][i], expected, atol=0.05 * rate + 1e-6)
    assert run.loaded.step == len(run.steps[label])


@pytest.mark.parametrize("case", CASES)
def test_means_over_the_minibatches_of_an_epoch(case, replay_of):
    replay = replay_of(case)
    run, label = replay.run, followed(replay.run)
    estimator = replay.copy.estimators[label]
    f = [v for v, _ in replay.f[label]]
    f = [v[: len(v) // estimator.samples_per_chain] for v in f]
    per_epoch = len(f) // EPOCHS
    for epoch, values in enumerate(epochs_of(f)):
        record = run.records[epoch]
        assert record["step"] == (epoch + 1) * per_epoch
        assert record["epoch"] == epoch + 1
        assert record["elbo"] == pytest.approx(np.mean([np.mean(v) for v in values]), rel=1e-5)
        if estimator.objective == "bound":
            expected = np.mean([np.mean(models.bound(v)) for v in values])
            assert record["multi_sample_bound"] == pytest.approx(expected, rel=1e-5)
        else:
            assert "multi_sample_bound" not in record


@pytest.mark.parametrize("case", CASES)
def test_variances_are_those_of_running_moments(case, replay_of):
    """m2 - mean m1^2 before each step, decay .999; the mean over an epoch, and its logarithm."""
    replay = replay_of(case)
    run = replay.run
    inference = {id(v) for v in replay.copy.model.inference_variables}
    of_q = [id(v) in inference for v in replay.copy.model.trainable_variables]

    def flat(gradients, part):
        return np.concatenate(
            [np.ravel(g) for g, q in zip(gradients, of_q, strict=True) if q or not part]
        )

    # The first moment is shared by all unbiased estimators, or by all if there are none.
    unbiased = [label for label in run.names if replay.copy.estimators[label].unbiased]
    shared = unbiased or [*run.names]
    for part, field in ((False, "log_variance"), (True, "log_variance_q")):
        series = {
            label: [flat(g, part) for g, _ in values] for label, values in replay.gradients.items()
        }
        n_steps = len(series[followed(run)])
        first = {
            label: np.zeros(len(flat(replay.gradients[label][0][0], part))) for label in series
        }
        second = dict.fromkeys(series, 0.0)
        table = {label: [] for label in series}
        for t in range(n_steps):
            mean = np.mean([first[label] for label in shared], axis=0)
            for label in series:
                m1 = mean if label in shared else first[label]
                table[label].append(second[label] - np.mean(m1**2))
            for label, gradients in series.items():
                first[label] = 0.999 * first[label] + 0.001 * gradients[t]
                second[label] = 0.999 * second[label] + 0.001 * np.mean(gradients[t] ** 2)
        for label in series:
            for epoch, values in enumerate(epochs_of(table[label])):
                reported = run.records[epoch][field]
                reported = reported[label] if run.h.entry.tracks else reported
                assert reported == pytest.approx(np.log(np.mean(values)), abs=2e-3), label


@pytest.mark.parametrize("case", CASES)
def test_bounds_of_the_validation_and_test_images(case, replay_of):
    replay = replay_of(case)
    run, label = replay.run, followed(replay.run)
    assert len(run.evaluated) == 2 * EPOCHS
    assert run.h.entry.tracks or run.facts["label"] == label
    for epoch, record in enumerate(run.records):
        for i, (name, images) in enumerate(zip(("valid", "test"), run.data[1:], strict=True)):
            call = run.evaluated[2 * epoch + i]
            assert call.n_samples == record["eval_samples"] == EVAL_SAMPLES
            at_images = SimpleNamespace(**vars(call) | {"x": images})
            f, log_weight = replay.copy.values(label, at_images)
            expected = np.mean(models.bound(log_weight))
            assert record[name] == pytest.approx(expected, rel=1e-5)
            assert record[f"{name}_elbo"] == pytest.approx(np.mean(f), rel=1e-5)
    # Weights of an evaluation are those after the epoch.
    weights = run.loaded.model.get_weights()
    for v, value in zip(
        run.loaded.model.trainable_variables, run.evaluated[-1].weights[0], strict=True
    ):
        np.testing.assert_array_equal(v, value)
    del weights


@pytest.mark.parametrize("case", CASES)
def test_conditional_variances_at_the_fixed_batch(case, replay_of):
    replay = replay_of(case)
    run = replay.run
    variables = replay.copy.model.trainable_variables
    inference = {id(v) for v in replay.copy.model.inference_variables}
    record = run.records[-1]
    assert record["variance_draws"] == DRAWS
    assert "estimator_variance" not in run.records[0]
    for label, calls in run.measured.items():
        assert len(calls) == DRAWS + 1  # and one to warm up
        for call in calls:
            np.testing.assert_array_equal(call.x, calls[0].x)
            for u, v in zip(call.weights[0], run.evaluated[-1].weights[0], strict=True):
                np.testing.assert_array_equal(u, v)
        gradients = [replay.copy.gradients(label, run.names[label], c)[0] for c in calls[1:]]
        measured = record["estimator_variance"][label]
        parts = {"total": variables, "q": [v for v in variables if id(v) in inference]}
        parts["p"] = [v for v in variables if id(v) not in inference]
        for part, members in parts.items():
            ids = {id(v) for v in members}
            rows = [
                np.concatenate(
                    [np.ravel(g) for g, v in zip(draw, variables, strict=True) if id(v) in ids]
                )
                for draw in gradients
            ]
            variance = np.mean(np.var(rows, axis=0, ddof=1))
            assert measured[part] == pytest.approx(variance, rel=2e-3), (label, part)
            cost = measured["evaluations"]
            assert measured["times_evaluations"][part] == pytest.approx(cost * measured[part])
            halves = [np.mean(np.var(rows[i : i + 2], axis=0, ddof=1)) for i in (0, 2)]
            error = np.std(halves, ddof=1) / np.sqrt(2)
            assert measured["standard_error"][part] == pytest.approx(error, rel=0.01)
        # Evaluations of f are the rows that were rolled out.
        assert cost == run.rows[label]
        assert run.facts["estimators"][label]["evaluations"] == run.rows[label]


@pytest.mark.parametrize("case", CASES)
def test_printed_numbers_are_those_of_the_records(case, run_of):
    run = run_of(case)
    lines = run.printed.splitlines()
    for record in run.records:
        step = record["step"]
        at = next(i for i, line in enumerate(lines) if line.startswith(f"Step {step}:"))
        numbers = [float(n) for n in re.findall(r"[-+.\w]+", lines[at].split(": ")[1])]
        names = [*record]
        metrics = names[names.index("epoch") + 1 : names.index("log_variance")]
        expected = [record[name] for name in metrics]
        expected = [-np.inf if value is None else value for value in expected]
        np.testing.assert_allclose(numbers, expected, rtol=1e-6)
        variances = record["log_variance"]
        if run.h.entry.tracks:
            for i, label in enumerate(sorted(variances)):
                assert lines[at + 1 + i] == str((label, variances[label]))
        else:
            assert float(lines[at + 1]) == variances
        for name in ("Valid", "Test"):
            line = next(line for line in lines if line.startswith(f"{name} {step}:"))
            numbers = [float(n) for n in re.findall(r"[-+.\w]+", line.split(": ")[1])]
            assert numbers[:2] == pytest.approx(
                [record[name.lower()], record[f"{name.lower()}_elbo"]]
            )
