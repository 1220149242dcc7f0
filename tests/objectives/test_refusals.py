"""Mistakes in objectives and arguments, each with one clear error."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import rebar

LOGITS = tf.Variable([[0.3, -0.2, 0.7]])
X = tf.zeros([4, 3])


def total(sample, x):
    return tf.reduce_sum(sample.bernoulli("b", LOGITS + x), axis=1)


def call(objective, *args, estimator="LOO", n_samples=2, seed=0, step=0, **options):
    return rebar.estimate(
        objective, *args, estimator=estimator, n_samples=n_samples, seed=seed, step=step, **options
    )


def refused(text, *given, **options):
    """The call is refused with a message that contains a text."""
    with pytest.raises(rebar.RebarError, match=re.escape(text)):
        call(*given, **options)


def test_errors_in_a_graph():
    """Autograph keeps the type and the message of an error."""
    for objective, text in [
        (lambda sample, x: total(sample, x)[:, tf.newaxis], "must be one value per row, shape [8]"),
        (lambda sample, x: total(sample, x) + total(sample, x), "site 'b': sampled twice"),
        (lambda sample, x: -sample.log_q, "sample.log_q: no site has been sampled"),
    ]:
        refused(text, objective, X)
        with pytest.raises(rebar.RebarError, match=re.escape(text)):
            tf.function(lambda f=objective: call(f, X).loss)()


RELAXING = ["REBAR", "DynamicREBAR", "RELAX", "MuProp", "Gumbel"]


@pytest.mark.parametrize("name", RELAXING)
@pytest.mark.parametrize("with_log_q", [False, True])
def test_argmax_above_a_relaxed_site(name, with_log_q):
    """log q of a later site depends on relaxed samples, but not through the argmax."""

    def objective(sample, x):
        b = sample.bernoulli("b", LOGITS + x)
        c = sample.categorical("c", tf.one_hot(tf.argmax(b, axis=1), 3) + x)
        f = tf.reduce_sum(c * [1.0, 2.0, 3.0], axis=1)
        return f - sample.log_q if with_log_q else f

    text = f"site 'b': f has no derivative with respect to its samples, which {title(name)} needs"
    refused(text, objective, X, estimator=rebar.estimator(name))


def title(name):
    """Class of an estimator."""
    return type(rebar.estimator(name)).__name__


@pytest.mark.parametrize("name", ["DisARM", "ARM", "LocalDisARM"])
def test_a_family_that_is_not_supported(name):
    def objective(sample, x):
        c = sample.categorical("c", LOGITS + x)
        return c[:, 0] - sample.log_q

    refused(f"site 'c': {name} does not support categorical sites", objective, X, estimator=name)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda f: f[:, tf.newaxis], "shape (8, 1): must be one value per row, shape [8]"),
        (lambda f: tf.reduce_mean(f), "shape (): must be one value per row, shape [8]"),
        (lambda f: f[:4], "shape (4,): must be one value per row, shape [8]"),
        (lambda f: None, "the objective returned None: must be one value per row"),
        (lambda f: (f, f), "the objective returned a tuple: must be one value per row"),
    ],
)
def test_a_result_of_another_shape(result, text):
    refused(text, lambda sample, x: result(total(sample, x)), X)


def test_samples_as_an_option():
    with pytest.raises(rebar.RebarError, match=r"'LOO'\): n_samples is no option .* to compile"):
        rebar.estimator("LOO", n_samples=4)


def test_arguments_and_logits_with_other_rows():
    refused("with 4, 5 rows", lambda sample, x, y: total(sample, x), X, tf.zeros([5]))
    text = "site 'b': logits of shape (3, 3): must have 8 rows"
    refused(text, lambda sample, x: tf.reduce_sum(sample.bernoulli("b", tf.zeros([3, 3])), 1), X)


def test_arguments_that_are_missing():
    text = "objective(sample, x) with 0 arguments after the first, sample: missing a required"
    refused(text, total)
    with pytest.raises(rebar.RebarError, match=re.escape(text)):
        rebar.compare_estimators(total, estimators=["LOO"], variables=[LOGITS])


def test_two_sites_of_one_name():
    def objective(sample, x):
        return total(sample, x) + total(sample, x)

    refused("site 'b': sampled twice; give each site another name", objective, X)


def test_names_must_be_strings():
    refused("site 0: its name must be a string", lambda sample: sample.bernoulli(0, LOGITS)[:, 0])


def test_sites_that_differ_between_rollouts():
    calls = []

    def objective(sample, x):
        calls.append(None)
        return sample.bernoulli("odd" if len(calls) % 2 else "even", LOGITS + x)[:, 0]

    refused("sample the same sites in the same order", objective, X, estimator="DisARM")


def test_sites_that_differ_between_calls():
    estimator = rebar.estimator("NVIL")
    call(total, X, estimator=estimator)

    def other(sample, x):
        return sample.bernoulli("c", LOGITS + x)[:, 0]

    text = "sites of the objective: c (3,), but in an earlier call b (3,)"
    refused(text, other, X, estimator=estimator)


@pytest.mark.parametrize("name", ["NVIL", "SimpleMuProp", "MuProp", "REBAR", "RELAX"])
def test_a_name_of_an_estimator_that_learns(name):
    text = f"estimator='{name}': has learned parts, which must persist; create rebar.estimator("
    refused(text, total, X, estimator=name)


def test_an_estimator_of_another_model():
    from rebar.testing.problems import Problem

    estimator = rebar.estimator("NVIL")
    estimator.setup(Problem().model())
    refused("set up for another model; create another", total, X, estimator=estimator)


@pytest.mark.parametrize("missing", ["seed", "step"])
def test_missing_noise(missing):
    refused("seed and step: missing; pass seed=0, step=i", total, X, **{missing: None})


def test_a_fraction_as_step():
    refused("step of type float32", total, X, step=0.5)


@pytest.mark.parametrize("n_samples", [0, 1.5])
def test_n_samples(n_samples):
    refused(f"n_samples={n_samples}: must be an integer", total, X, n_samples=n_samples)


@pytest.mark.parametrize(("name", "least"), [("LOO", 2), ("VIMCO", 2)])
def test_too_few_samples(name, least):
    refused(f"must be at least {least} for {name}", total, X, estimator=name, n_samples=1)


@pytest.mark.parametrize(
    ("name", "suggestion"), [("DisARMM", "DisARM"), ("loo", "LOO"), ("SBNRebarr", "SBNRebar")]
)
def test_an_unknown_name(name, suggestion):
    text = f"unknown estimator '{name}'; did you mean {suggestion}"
    refused(text, total, X, estimator=name)
    with pytest.raises(rebar.RebarError, match=re.escape(text)):
        rebar.estimator(name)


def test_something_else_as_estimator():
    refused("estimator=0.5: must be a name or an instance", total, X, estimator=0.5)


def test_a_distribution_without_reparameterization():
    def objective(sample, x):
        k = sample("k", tfp.distributions.Poisson(tf.exp(x[:, 0])))
        return total(sample, x) + k

    refused("site 'k': Poisson is not reparameterized; use a reparameterized", objective, X)


def test_a_distribution_with_other_rows():
    distributions = tfp.distributions
    for wrong in (distributions.Normal(tf.zeros([3]), 1.0), distributions.Bernoulli(tf.zeros([3]))):
        text = f"site 'z': {type(wrong).__name__} of batch shape (3,): must have 8 rows, 1 or none"
        refused(text, lambda sample, x, wrong=wrong: sample("z", wrong), X)


def test_a_joint_distribution_as_a_site():
    joint = tfp.distributions.JointDistributionSequential([tfp.distributions.Normal(0.0, 1.0)])
    text = "site 'z': JointDistributionSequential has several sites; pass it to rebar.tfp.loss"
    refused(text, lambda sample, x: sample("z", joint)[0], X)


@pytest.mark.parametrize("name", [*RELAXING, "ReinMax"])
def test_integers_cannot_be_relaxed(name):
    def objective(sample, x):
        return tf.gather([1.0, 2.0, 3.0], sample("k", tfp.distributions.Categorical(LOGITS)))

    text = f"site 'k': integers of a Categorical cannot be relaxed, which {title(name)} needs"
    refused(text, objective, X, estimator=rebar.estimator(name))


def loop(sample, x):
    f = tf.zeros([8])
    for _ in tf.range(1):
        f += total(sample, x)
    return f


def branch(sample, x):
    return total(sample, x) if tf.reduce_sum(x) > 0 else tf.zeros([8])


@pytest.mark.parametrize("objective", [loop, branch])
def test_a_site_within_a_loop_or_branch_of_a_graph(objective):
    text = "site 'b': sampled within tf.cond, tf.while_loop or another graph"
    with pytest.raises(rebar.RebarError, match=re.escape(text)):
        tf.function(lambda x: call(objective, x).loss)(X)


@pytest.mark.parametrize("name", ["NVIL", "REBAR", "RELAX"])
def test_learned_parts_of_another_type(name):
    def objective(sample, x):
        return tf.reduce_sum(sample.bernoulli("b", tf.cast(LOGITS, tf.float64) + x), axis=1)

    x = tf.zeros([4, 3], tf.float64)
    text = f"{title(name)} of type float32: must be that of the logits"
    refused(text, objective, x, estimator=rebar.estimator(name))


def test_log_q_before_any_site():
    def objective(sample, x):
        return total(sample, x) - sample.log_q

    refused("sample.log_q: no site has been sampled", lambda sample, x: -sample.log_q, X)
    call(objective, X)


@pytest.mark.parametrize(
    ("logits", "text"),
    [
        (np.array([[1, 2]]), "logits of type int64: must be floats"),
        (0.5, "logits of shape (): must have rows, [N, ...]"),
    ],
)
def test_logits(logits, text):
    refused(f"site 'b': {text}", lambda sample: sample.bernoulli("b", logits)[:, 0])


def test_one_category():
    text = "site 'c': categorical logits of shape (2, 1): must be [N, ..., C] with C >= 2"
    refused(text, lambda sample: sample.categorical("c", tf.zeros([1, 1]))[:, 0])


def test_estimators_of_sites():
    def objective(sample, x):
        b = sample.bernoulli("b", LOGITS + x)
        c = sample.categorical("c", b + x)
        return tf.reduce_sum(b * c, axis=1)

    refused("site 'c': has no estimator", objective, X, estimator={"b": "LOO"})
    every = {"b": "LOO", "c": "LOO", "d": "LOO"}
    refused("estimator of site 'd': unknown; the sites are b, c", objective, X, estimator=every)
    wrong = {"b": "LOO", "c": "DisARM"}
    refused("site 'c': DisARM does not support categorical", objective, X, estimator=wrong)
    bounds = {"b": "LOO", "c": "VIMCO"}
    refused("follow different objectives", objective, X, estimator=bounds)
    refused("must have an estimator per site", objective, X, estimator={})


OPTIONS = {
    "ovis_gamma='1': must be from 0 to 1": ("OVIS", {"ovis_gamma": "1"}),
    "redge_end=None: must be between 0 and 1": ("ReDGE", {"redge_end": None}),
    "n_antithetic='3': must be an integer of at least 2; use e.g. n_antithetic=3": (
        "ARMS",
        {"n_antithetic": "3"},
    ),
    "n_antithetic=True: must be an integer": ("CARMS", {"n_antithetic": True}),
    "n_codes=99: must be an integer from 2 to": ("UNORD", {"n_codes": 99}),
    "mc_samples=2.5: must be an integer of at least 1": ("GumbelRao", {"mc_samples": 2.5}),
    "temperature='a': must be above 0": ("REBAR", {"temperature": "a"}),
    "temperature=None: must be above 0": ("ST", {"temperature": None}),
    "ovis_gamma=True: must be from 0 to 1": ("OVIS", {"ovis_gamma": True}),
    "gst_gap=0: must be above 0": ("GST", {"gst_gap": 0}),
    r"estimator\('ZGR'\): temperature is fixed in ZGR; remove it": ("ZGR", {"temperature": 0.5}),
    r"estimator\('LOO'\): invalid option": ("LOO", {"temperature": 0.5}),
}


@pytest.mark.parametrize(("message", "arguments"), OPTIONS.items())
def test_options_of_an_estimator(message, arguments):
    name, options = arguments
    with pytest.raises(rebar.RebarError, match=message):
        rebar.estimator(name, **options)


@pytest.mark.parametrize(
    ("name", "option"), [("ARMS", "n_antithetic"), ("CARMS", "n_antithetic"), ("UNORD", "n_codes")]
)
def test_integers_of_numpy(name, option):
    estimator = rebar.estimator(name, **{option: np.int64(3)})
    assert type(getattr(estimator, option)) is int


def test_fractions_of_numpy():
    assert rebar.estimator("ReDGE", redge_end=np.float32(0.25)).redge_end == 0.25
    assert not rebar.estimator("OVIS", ovis_gamma=np.int64(1)).unbiased
