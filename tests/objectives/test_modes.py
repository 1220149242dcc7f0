"""Ways to call `rebar.estimate`, and to use its loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar
from rebar.testing.problems import flat
from tests.objectives import problems
from tests.objectives.sampling import Setting, flat_tensor, settings

PROBLEM = problems.mixed()
VARIABLES = list(PROBLEM.variables.values())
(X,) = PROBLEM.args


def supported(estimator):
    return PROBLEM.families <= set(estimator.families)


SETTINGS = [s for s in settings(supported) if s.label != "Exact"]
"""All, biased ones too, in all settings; "Exact" has no samples."""
FIRST = [s for s in SETTINGS if s.first]
"""One setting per estimator."""
COMPILED = ("LOO", "DynamicREBAR", "ReinMax")
"""Compiled by XLA: one of each kind; `tests.conformance.test_registered` compiles all at models."""
COMPILED_SLOWLY = ("VIMCO", "RELAX")
"""Compiled by XLA with -m slow."""
KINDS = ("LOO", "VIMCO", "DynamicREBAR", "RELAX", "ReinMax")

LOO = Setting("LOO", {}, 2)


def discrete(sample, x):
    """Two sites, in the type of x; log q is at least float32."""
    w, v = (tf.cast(VARIABLES[i], x.dtype) for i in (0, -1))
    b = sample.bernoulli("b", tf.matmul(x, w))
    c = sample.categorical("c", tf.reshape(tf.concat([b, x, b * x], axis=1), [-1, 2, 3]))
    score = tf.matmul(tf.concat([c[:, 0], c[:, 1]], axis=1), v)
    return tf.cast(tf.reduce_sum(b * score, axis=1), sample.log_q.dtype) - sample.log_q


def gradients(setting, objective=PROBLEM.objective, x=X, step=0, estimator=None, seed=0):
    """Gradients of the loss and of the control loss, and the value."""
    estimator = estimator or setting.build()
    with tf.GradientTape(persistent=True) as tape:
        result = rebar.estimate(
            objective, x, estimator=estimator, n_samples=setting.n_samples, seed=seed, step=step
        )
    control = tape.gradient(result.control_loss, estimator.trainable_variables)
    gradient = tape.gradient(result.loss, VARIABLES, unconnected_gradients="zero")
    return flat_tensor(gradient), control, result.value


def set_up(setting, estimator):
    options = {"estimator": estimator, "n_samples": setting.n_samples, "seed": 0, "step": 0}
    rebar.estimate(discrete, X, **options)


@pytest.mark.parametrize(
    ("setting", "compiled"),
    [
        *((s, s.label in COMPILED) for s in FIRST),
        *(
            pytest.param(s, True, marks=pytest.mark.slow)
            for s in FIRST
            if s.label in COMPILED_SLOWLY
        ),
    ],
    ids=str,
)
def test_eager_graph_and_xla_are_equal(setting, compiled):
    """The graph with an unknown batch size; it also sets up those that XLA compiles, too."""
    eager = flat_list(gradients(setting, discrete))
    signature = [tf.TensorSpec([None, 2], tf.float64), tf.TensorSpec([], tf.int32)]
    modes = [{"input_signature": signature}]
    if compiled:
        modes.append({"autograph": False, "jit_compile": True})
    for options in modes:
        estimator = setting.build()
        if options is modes[-1]:  # else `call` is traced twice
            set_up(setting, estimator)

        @tf.function(**options)
        def call(x, step, e=estimator):
            return gradients(setting, discrete, x, step, e)

        for a, b in zip(eager, flat_list(call(X, tf.constant(0))), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9 * np.max(np.abs(a)))


def test_autograph_converts_the_objective_alone():
    """Python conditions on tensors work in it; XLA draws other normal numbers than eager mode."""

    def objective(sample, x):
        if tf.reduce_sum(x) > 0:
            x = 2 * x
        return PROBLEM.objective(sample, x)

    eager = gradients(LOO, objective)[0]
    np.testing.assert_allclose(tf.function(gradients)(LOO, objective)[0], eager, rtol=1e-12)


def flat_list(result):
    return [np.asarray(t) for t in tf.nest.flatten(result)]


@pytest.mark.parametrize("setting", FIRST, ids=str)
def test_numbers_depend_on_seed_and_step_alone(setting):
    estimator = setting.build()
    first = gradients(setting, estimator=estimator)[0]
    assert np.any(first)
    np.testing.assert_array_equal(gradients(setting, estimator=estimator)[0], first)
    for other in ({"step": 1}, {"seed": 1}, {"seed": (0, 1)}):
        assert np.max(np.abs(gradients(setting, estimator=estimator, **other)[0] - first)) > 1e-3


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_calls_of_the_objective(setting):
    """One per rollout, on all its rows; `evaluations` counts them."""
    estimator, rows = setting.build(), []

    def objective(sample, x):
        rows.append(len(x))
        return PROBLEM.objective(sample, x)

    for _ in range(2):  # the first call sets the estimator up, and checks the objective
        rows.clear()
        result = rebar.estimate(
            objective, X, estimator=estimator, n_samples=setting.n_samples, seed=0, step=0
        )
    assert result.evaluations == estimator.evaluations([(2,), (3,)], setting.n_samples)
    assert sum(rows) == result.evaluations * len(X)
    assert set(rows) <= {len(X), setting.n_samples * len(X)}


@pytest.mark.parametrize("name", ["LOO", "REBAR", "RELAX", "ReinMax"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_low_precision(name, dtype):
    """Samples and log q are float32 or more; gradients have the types of their variables."""
    results, weights = [], []
    for kind in ("float64", dtype):
        x = tf.cast([[0.5, -1.0], [1.5, 0.25]], kind)  # exact in every type
        estimator = rebar.estimator(name, dtype="float64" if kind == "float64" else "float32")

        def call(step, x=x, estimator=estimator):
            with tf.GradientTape() as tape:
                tape.watch(x)
                result = rebar.estimate(
                    discrete, x, estimator=estimator, n_samples=2, seed=0, step=step
                )
            return tape.gradient(result.loss, x), result

        call(0)
        weights = weights or estimator.get_weights()
        estimator.set_weights(weights)  # initial ones depend on the type
        gradient, result = call(1)
        assert result.value.dtype == estimator.compute_dtype
        assert {sample.dtype for sample in result.samples.values()} == {x.dtype}
        assert gradient.dtype == x.dtype
        results.append(tf.cast(gradient, tf.float64))
    tolerance = {"float32": 1e-5, "bfloat16": 0.05, "float16": 0.01}[dtype]
    np.testing.assert_allclose(*results, atol=tolerance * np.max(np.abs(results)))


@pytest.mark.parametrize(
    "setting",
    [s if s.label in KINDS else pytest.param(s, marks=pytest.mark.slow) for s in FIRST],
    ids=str,
)
def test_loss_scaling(setting):
    """An upstream factor multiplies the gradient; a sum of losses has the sum of gradients.

    All estimators share the loss; one or two of each kind are not slow tests.
    """
    estimator = setting.build()
    options = {"estimator": estimator, "n_samples": setting.n_samples, "seed": 0}
    plain = sum(gradients(setting, step=i, estimator=estimator)[0] for i in (0, 1))
    with tf.GradientTape() as tape:
        losses = [rebar.estimate(PROBLEM.objective, X, step=i, **options).loss for i in (0, 1)]
        scaled = 512.0 * tf.add_n(losses)
    gradient = flat(tape.gradient(scaled, VARIABLES))
    np.testing.assert_allclose(gradient, 512 * plain, rtol=1e-12, atol=1e-12)


def test_loss_and_value():
    """The loss is -mean f, with its own gradient; an added penalty keeps its own."""
    with tf.GradientTape() as tape:
        result = rebar.estimate(PROBLEM.objective, X, estimator="LOO", n_samples=2, seed=0, step=0)
        total = result.loss + tf.reduce_sum(tf.square(VARIABLES[0]))
    assert result.value.shape == (3,)
    assert float(result.loss) == pytest.approx(-float(tf.reduce_mean(result.value)), rel=1e-12)
    expected = gradients(LOO)[0].numpy()
    expected[: VARIABLES[0].shape.num_elements()] += 2 * np.reshape(VARIABLES[0], -1)
    np.testing.assert_allclose(flat(tape.gradient(total, VARIABLES)), expected, rtol=1e-12)
    assert {name: s.shape.as_list() for name, s in result.samples.items()} == {
        "b": [6, 2],
        "z": [6, 1],
        "c": [6, 3],
    }


def test_gradient_accumulation():
    """Micro-batches of equal size: the mean of their losses is an estimate for all examples."""
    parts = [tf.tile(X[i : i + 1], [3000, 1]) for i in range(3)]
    with tf.GradientTape() as tape:
        losses = [
            rebar.estimate(PROBLEM.objective, x, estimator="LOO", n_samples=2, seed=0, step=i).loss
            for i, x in enumerate(parts)
        ]
        loss = tf.add_n(losses) / len(parts)
    mean, exact = flat(tape.gradient(loss, VARIABLES)), flat(PROBLEM.exact())
    assert np.linalg.norm(mean - exact) < 0.1 * np.linalg.norm(exact)
    separate = sum(gradients(LOO, x=x, step=i)[0] for i, x in enumerate(parts)) / 3
    np.testing.assert_allclose(mean, separate, rtol=1e-9, atol=1e-12)


class Classifier(keras.Model):
    """A user's model with gates, trained by the estimator's loss."""

    def __init__(self, estimator):
        super().__init__()
        self.hidden = keras.layers.Dense(6, "tanh")
        self.output_layer = keras.layers.Dense(3)
        self.estimator = estimator
        self.gates = self.add_weight(shape=(1, 6), initializer="zeros", name="gates")
        self.count = tf.Variable(0, trainable=False)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.output_layer.build((None, 6))

    def log_likelihood(self, sample, x, y):
        gates = sample.bernoulli("gates", tf.cast(self.gates, self.compute_dtype))
        logits = self.output_layer(self.hidden(x) * gates)
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.cast(logits, tf.float32))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            result = rebar.estimate(
                self.log_likelihood, x, y, estimator=self.estimator, seed=0, step=self.count
            )
            loss = self.optimizer.scale_loss(result.loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.count.assign_add(1)
        return {"log_likelihood": tf.reduce_mean(result.value)}


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("float32", {"run_eagerly": True}),
        ("mixed_bfloat16", {"run_eagerly": True}),
        ("mixed_float16", {"run_eagerly": True}),
        ("mixed_float16", {"jit_compile": True}),
    ],
)
def test_keras_train_step(policy, options):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 4)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1).astype(np.int32)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = Classifier("DisARM")
        model.build((None, 4))
        optimizer = keras.optimizers.Adam(0.05)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, **options)
        epochs = 2 if options.get("run_eagerly") else 20
        history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, shuffle=False)
    finally:
        keras.config.set_dtype_policy(previous)
    values = history.history["log_likelihood"]
    assert int(model.count) == 2 * epochs
    assert values[-1] > values[0] + (0 if epochs == 2 else 0.3)
    assert np.any(model.gates.numpy())


def test_arguments():
    """Nests, NumPy arrays, variables, numbers and other objects."""
    scale = tf.Variable(2.0, dtype=tf.float64)
    x = np.float64([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    rows = []

    def nested(sample, batch, factor, options):
        rows.append(len(batch["x"]))
        b = sample.bernoulli("b", batch["x"] * factor)
        other, *_ = batch["more"]
        return tf.reduce_sum(b, axis=1) * other * options["price"]

    batch = {"x": x, "more": (tf.constant([1.0, 2.0, 3.0], tf.float64), [])}
    estimator = rebar.estimator("NVIL", dtype="float64")
    with tf.GradientTape() as tape:
        result = rebar.estimate(
            *(nested, batch, scale, {"price": 0.5, "name": "p"}),
            estimator=estimator,
            n_samples=4,
            seed=0,
            step=0,
        )
    assert rows[-1] == 12
    assert result.value.shape == (3,)
    assert float(tape.gradient(result.loss, scale)) != 0
    kernel = next(v for v in estimator.trainable_variables if "hidden" in v.path)
    assert kernel.shape[0] == 3  # two numbers of x, and one more


@pytest.mark.parametrize("label", ["LOO", "NVIL", "DisARM", "REBAR", "RELAX", "MuProp", "VIMCO"])
def test_no_arguments(label):
    """Logits [1, H] are shared by the samples, the only rows."""
    logits = tf.Variable([[0.2, -0.4]])
    estimator = rebar.estimator(label)
    with tf.GradientTape() as tape:
        result = rebar.estimate(
            lambda sample: tf.reduce_sum(sample.bernoulli("b", logits), axis=1),
            estimator=estimator,
            n_samples=4000,
            seed=0,
            step=0,
        )
    assert result.value.shape == (1,)
    assert result.samples["b"].shape == (4000, 2)
    gradient = tape.gradient(result.loss, logits)
    if estimator.objective == "elbo":
        p = tf.sigmoid(logits)
        np.testing.assert_allclose(gradient, -p * (1 - p), atol=0.05)
