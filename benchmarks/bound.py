"""A lower bound of a training step: the matrix products and memory passes it needs, measured.

Two linear layers, 784 pixels, 200 units, batch 24, one thread, TensorFlow's kernels. Rows that meet
the same weights are one product, and what several estimators share is computed once.
"""

import time
from typing import NamedTuple

import common

MAPS = {
    "q0": (common.PIXELS, common.UNITS),
    "q1": (common.UNITS, common.UNITS),
    "p1": (common.UNITS, common.UNITS),
    "p0": (common.UNITS, common.PIXELS),
}
"""The linear maps of the model: inputs, outputs."""

PASSES = {
    "SBNNVIL": {"q0": (1, 0, 1), "q1": (1, 0, 1), "p1": (1, 0, 1), "p0": (1, 0, 1)},
    "SBNDynamicRebar": {"q0": (1, 0, 1), "q1": (3, 2, 1), "p1": (5, 4, 1), "p0": (3, 2, 1)},
    "SBNTrackGradVariances": {"q0": (1, 0, 5), "q1": (5, 4, 5), "p1": (8, 7, 1), "p0": (5, 4, 1)},
}
"""Model -> map -> minibatches of rows through the map, cotangents back to its input, gradients.

NVIL: the hard rollout, 1 through each map, and the gradient of each.
DynamicREBAR adds, with d the tangent along the temperature: relaxed from layer 0 on, q1, p1 and p0
each 1 and its d; relaxed from layer 1 on, p1 1 and its d. As many cotangents come back.
The tracker: hard, 1 each, and the gradients of p; mean field, q1, p1, p0 1 each, and 1 cotangent
each for MuProp; DynamicREBAR as above; REBAR the same without d. Five gradients of q.
"""

BASELINES = {"SBNNVIL": 1, "SBNDynamicRebar": 1, "SBNTrackGradVariances": 6}
"""Model -> baselines of 100 hidden units: through once, one gradient; their output is left out."""

VARIANCES = {"SBNNVIL": 0, "SBNDynamicRebar": 1, "SBNTrackGradVariances": 2}
"""Model -> products (A A') d for each layer of q, of one A A' (estimators/logit_products.py)."""

_HIDDEN = 100
_UNROLLED, _TURNS = 10, 50


class Product(NamedTuple):
    """A matrix product: rows through a map (n_input, n_output), back, or the map's gradient."""

    what: str
    form: str
    rows: int
    n_input: int
    n_output: int

    def shapes(self):
        """Shapes of both factors, and which of them is transposed."""
        inputs, outputs = [self.rows, self.n_input], [self.rows, self.n_output]
        weights = [self.n_input, self.n_output]
        return {
            "forward": (inputs, weights, False, False),
            "back": (outputs, weights, False, True),
            "gradient": (inputs, outputs, True, False),
        }[self.form]

    def megaflops(self):
        """Additions and multiplications, in millions."""
        return 2e-6 * self.rows * self.n_input * self.n_output


def products(model):
    """The matrix products of a step."""
    batch = common.BATCH
    found = []
    for name, (forward, back, gradients) in PASSES[model].items():
        n_input, n_output = MAPS[name]
        found.append(Product(name, "forward", forward * batch, n_input, n_output))
        if back:
            found.append(Product(name, "back", back * batch, n_input, n_output))
        found.append(Product(name, "gradient", batch, n_input, gradients * n_output))
    hidden = BASELINES[model] * _HIDDEN
    found += [
        Product("baseline", form, batch, common.PIXELS, hidden) for form in ("forward", "gradient")
    ]
    if VARIANCES[model]:
        for name in ("q0", "q1"):
            n_input, n_output = MAPS[name]
            found.append(Product(f"{name} A A'", "back", batch, batch, n_input))
            width = VARIANCES[model] * n_output
            found.append(Product(f"{name} A A' d", "forward", batch, batch, width))
    return found


def worker(pipe, products, sizes):
    """Answers each message with the milliseconds of each product, and those of the passes."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # What is computed again and again would be computed once.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    start = product_clock(tf, Product("start", "forward", 1, 1, 1))
    clocks = [product_clock(tf, product) for product in products]
    passes = {
        "adam": [vector_clock(tf, size, adam_pass) for size in sizes["adam"]],
        "moments": [vector_clock(tf, size, moment_pass) for size in sizes["moments"]],
    }
    while pipe.recv():
        overhead = start()
        times = [max(0, clock() - overhead) for clock in clocks]
        sums = {name: sum(clock() for clock in clocks) for name, clocks in passes.items()}
        pipe.send((times, sums))


def product_clock(tf, product):
    """A function that measures a product: milliseconds."""
    left, right, transpose_left, transpose_right = product.shapes()

    def operation(last, left, right):
        with tf.control_dependencies([last]):
            return tf.matmul(left, right, transpose_left, transpose_right)

    return _clock(tf, operation, tf.random.normal(left), tf.random.normal(right))


def vector_clock(tf, size, operation):
    """A function that measures a pass over variables of `size` components: milliseconds."""
    variables = [tf.Variable(tf.zeros(size)) for _ in range(3)]
    return _clock(tf, lambda last, g: operation(tf, last, variables, g), tf.random.normal([size]))


def adam_pass(tf, last, variables, gradient):
    """Adam's update of a vector and its two moments."""
    var, m, v = (variable.handle for variable in variables)
    with tf.control_dependencies([last]):
        tf.raw_ops.ResourceApplyAdam(
            var=var,
            m=m,
            v=v,
            beta1_power=0.5,
            beta2_power=0.5,
            lr=1e-4,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-8,
            grad=gradient,
        )
    return last


def moment_pass(tf, last, variables, gradient):
    """One vector is added to another, times a number."""
    with tf.control_dependencies([last]):
        tf.raw_ops.ResourceApplyGradientDescent(var=variables[0].handle, alpha=1e-3, delta=gradient)
    return last


def _clock(tf, operation, *tensors):
    """A function that measures operation(last, *tensors), one after the other: milliseconds."""

    @tf.function(autograph=False)
    def loop(*tensors):
        def body(i, last):
            for _ in range(_UNROLLED):
                last = operation(last, *tensors)
            return i + 1, last

        first = operation(tf.zeros([]), *tensors)
        return tf.while_loop(lambda i, _: i < _TURNS, body, (tf.constant(0), first))[1]

    def measure():
        start = time.perf_counter()
        loop(*tensors).numpy()
        return 1000 * (time.perf_counter() - start) / (_UNROLLED * _TURNS + 1)

    measure()
    return measure
