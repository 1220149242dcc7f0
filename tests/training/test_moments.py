"""The running variance of a gradient, against the averages written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rebar.core.gradients import sums_of_squares
from rebar.training.moments import OF_PART, Moments

SHAPES = ((2, 3), (3,), ())
COUNT = 10
DECAY = 0.999
"""Of the published variances (Tucker et al. 2017)."""


def make_variables():
    return [
        keras.Variable(np.zeros(shape), dtype="float64", name=f"v{i}")
        for i, shape in enumerate(SHAPES)
    ]


@pytest.fixture
def variables():
    return make_variables()


def gradient(rng):
    return [rng.normal(1, 2, shape) for shape in SHAPES]


def flat(gradients):
    return np.concatenate([np.ravel(g) for g in gradients])


def average(history):
    """E[.] by the 2017 rule: from zero, not debiased."""
    total = np.zeros(COUNT)
    for value in history:
        total = DECAY * total + (1 - DECAY) * value
    return total


def take(moments, tracked):
    """One update with label (or "") -> gradients."""
    tensors = {k: [tf.constant(g) for g in v] for k, v in tracked.items()}
    moments.update(tensors, {k: sums_of_squares(v) for k, v in tensors.items()})


def test_a_single_gradient(variables):
    rng = np.random.default_rng(0)
    moments = Moments(variables)
    history = []
    for _ in range(5):
        values, metrics = moments.values()
        expected = np.mean(average([g**2 for g in history]) - average(history) ** 2)
        assert list(values) == [""]
        assert metrics == {}
        np.testing.assert_allclose(values[""], expected, rtol=1e-12, atol=1e-300)
        gradients = gradient(rng)
        take(moments, {"": gradients})
        history.append(flat(gradients))


@pytest.mark.parametrize("unbiased", [("A", "B"), ("A", "B", "C"), ()])
def test_several_methods_share_the_average_of_the_unbiased_ones(variables, unbiased):
    rng = np.random.default_rng(1)
    moments = Moments(variables, ["A", "B", "C"], unbiased)
    history = {label: [] for label in "ABC"}
    for _ in range(4):
        gradients = {label: gradient(rng) for label in "ABC"}
        take(moments, gradients)
        for label in "ABC":
            history[label].append(flat(gradients[label]))
    first = {label: average(history[label]) for label in "ABC"}
    averaged = unbiased or "ABC"
    mu = np.mean([first[label] for label in averaged], axis=0)
    values, metrics = moments.values()
    assert list(values) == ["A", "B", "C"]
    assert list(metrics) == ["deviation/A", "deviation/B", "deviation/C", "log_mean_square"]
    for label in "ABC":
        about = mu if label in averaged else first[label]
        expected = np.mean(average([g**2 for g in history[label]]) - about**2)
        np.testing.assert_allclose(values[label], expected, rtol=1e-12)
        np.testing.assert_allclose(
            metrics[f"deviation/{label}"], np.mean((first[label] - mu) ** 2), rtol=1e-12
        )
    np.testing.assert_allclose(metrics["log_mean_square"], np.log(np.mean(mu**2)), rtol=1e-12)


@pytest.mark.parametrize("labels", [(), ("A", "B", "C")])
@pytest.mark.parametrize("part", [(0,), (2, 1)])
def test_the_variance_over_some_variables(variables, labels, part):
    """The same as the moments of these variables alone; those of all are not touched."""
    rng = np.random.default_rng(1)
    averaged = labels[:2]
    whole = Moments(variables, labels, averaged)
    both = Moments(variables, labels, averaged, part)
    alone = Moments([variables[i] for i in sorted(part)], labels, averaged)
    for _ in range(4):
        gradients = {label: gradient(rng) for label in labels or [""]}
        take(whole, gradients)
        take(both, gradients)
        take(alone, {k: [v[i] for i in sorted(part)] for k, v in gradients.items()})
    (of_all, metrics), (values, same_metrics) = whole.values(), both.values()
    assert {k: float(v) for k, v in metrics.items()} == {
        k: float(v) for k, v in same_metrics.items()
    }
    assert list(values) == [*of_all, *(f"{label}{OF_PART}" for label in of_all)]
    of_part, _ = alone.values()
    for label in of_all:
        assert float(values[label]) == float(of_all[label])
        np.testing.assert_allclose(values[f"{label}{OF_PART}"], of_part[label], rtol=1e-12)
        assert abs(float(values[f"{label}{OF_PART}"] / values[label]) - 1) > 0.01


def test_before_the_first_step(variables):
    """Zero, and log 0, as the first epochs of 2017 show."""
    values, metrics = Moments(variables, ["A"], ["A"]).values()
    assert float(values["A"]) == 0
    assert float(metrics["log_mean_square"]) == -np.inf


@pytest.mark.parametrize("labels", [(), ("A", "B")])
def test_named_variables_are_all_that_changes(variables, labels):
    """Copied by name into fresh moments, they give the same values."""
    rng = np.random.default_rng(2)
    old, new = Moments(variables, labels, labels), Moments(variables, labels, labels)
    take(old, {label: gradient(rng) for label in labels or [""]})
    named = new.named_variables()
    vectors = len(SHAPES) * (3 if labels else 1)  # two labels and their mean
    assert len(named) == vectors + max(1, len(labels)) + 2
    for name, variable in old.named_variables().items():
        named[name].assign(variable)
    for was, now in zip(old.values(), new.values(), strict=True):
        assert {k: float(v) for k, v in was.items()} == {k: float(v) for k, v in now.items()}
    assert float(next(iter(new.values()[0].values()))) != 0


@pytest.mark.parametrize("averaged", [("A", "B", "C"), ("A", "B")])
def test_labels_with_common_gradients_share_what_is_remembered_of_them(variables, averaged):
    """The same numbers, from fewer vectors."""
    rng = np.random.default_rng(3)
    apart = Moments(variables, "ABC", averaged)
    together = Moments(variables, "ABC", averaged, (), ("A", "C"), (0, 2))
    for _ in range(3):
        gradients = {label: gradient(rng) for label in "ABC"}
        for i in (0, 2):
            gradients["C"][i] = gradients["A"][i]
        take(apart, gradients)
        take(together, gradients)
    assert len(apart.named_variables()) - len(together.named_variables()) == 2
    for was, now in zip(apart.values(), together.values(), strict=True):
        assert list(was) == list(now)
        np.testing.assert_allclose(list(was.values()), list(now.values()), rtol=1e-12)
    for label in "ABC":
        for was, now in zip(apart.first(label), together.first(label), strict=True):
            np.testing.assert_allclose(was, now, rtol=1e-12)


def test_all_labels_may_be_one_gradient(variables):
    """Then nothing deviates."""
    moments = Moments(variables, "AB", "AB", (), "AB", range(len(SHAPES)))
    same = gradient(np.random.default_rng(4))
    take(moments, {"A": same, "B": same})
    variances, metrics = moments.values()
    expected = np.mean(average([flat(same) ** 2]) - average([flat(same)]) ** 2)
    np.testing.assert_allclose([variances["A"], variances["B"]], expected, rtol=1e-12)
    assert float(metrics["deviation/A"]) == float(metrics["deviation/B"]) == 0


@pytest.mark.parametrize("labels", [(), ("A", "B", "C")])
def test_no_sum_depends_on_who_is_faster(variables, labels):
    """AddN of more than two terms may, if others read the terms, too: here two means and a test."""
    moments = Moments(variables, labels, labels[:2], part=(0, 1, 2))
    rng = np.random.default_rng(6)
    tracked = {label: gradient(rng) for label in labels or [""]}

    @tf.function
    def update(tracked):
        moments.update(tracked, {k: sums_of_squares(g) for k, g in tracked.items()})

    operations = update.get_concrete_function(tracked).graph.get_operations()
    assert "Sum" in {operation.type for operation in operations}
    assert [o.name for o in operations if o.type == "AddN" and len(o.inputs) > 2] == []


@pytest.mark.parametrize("labels", [(), ("A", "B")])
def test_rescaling_changes_no_moment(variables, labels):
    rng = np.random.default_rng(5)
    plain, rescaled = Moments(variables, labels, labels), Moments(variables, labels, labels)
    for _ in range(4):
        gradients = {label: gradient(rng) for label in labels or [""]}
        take(plain, gradients)
        take(rescaled, gradients)
        rescaled.rescale()
        assert float(rescaled.named_variables()["moments/scale"]) == 1
    np.testing.assert_allclose(plain.named_variables()["moments/scale"], DECAY**4, rtol=1e-12)
    for label in gradients:
        for was, now in zip(plain.first(label), rescaled.first(label), strict=True):
            np.testing.assert_allclose(was, now, rtol=1e-12)
    for was, now in zip(plain.values(), rescaled.values(), strict=True):
        np.testing.assert_allclose(list(was.values()), list(now.values()), rtol=1e-12)


def test_a_hundred_thousand_steps():
    """In float32, as trained: the averages neither fade nor drift, whatever the scale has been."""
    variable = keras.Variable(np.zeros(2), dtype="float32")
    moments = Moments([variable])

    @tf.function(autograph=False, jit_compile=True)
    def block():
        def body(i):
            # 3 and -1 in turns, and always 2: variances of 4 and 0.
            g = [tf.stack([1 + 2 * tf.cast(1 - 2 * (i % 2), tf.float32), 2.0])]
            moments.update({"": g}, {"": sums_of_squares(g)})
            return (i + 1,)

        tf.while_loop(lambda i: i < 100, body, (tf.constant(0),))

    for _ in range(1_000):
        moments.rescale()
        block()
    values, _ = moments.values()
    np.testing.assert_allclose(moments.first()[0], [1, 2], rtol=2e-3)
    np.testing.assert_allclose(values[""], 2, rtol=2e-3)
