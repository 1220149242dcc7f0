"""Errors in traced code keep their class and message, whatever wraps the function."""

import keras
import pytest
import tensorflow as tf

import rebar
from rebar.core import enumeration
from rebar.errors import RebarError
from rebar.functional import straight_through

LOGITS = tf.zeros([2, 3])
MISTAKES = {
    "f": lambda x: rebar.estimate_gradient("disarm", lambda b: b, x, seed=0, step=0),
    "temperature": lambda x: rebar.estimate_gradient(
        "rebar", lambda b: b[:, 0], x, seed=0, step=0, temperature=-1
    ),
    "constant": lambda x: straight_through.st(x, temperature=tf.constant(-1.0), seed=0, step=0),
    "noise": lambda x: straight_through.st(x, noise=[[1.5, 0.5, 0.5]] * 2),
    "method": lambda x: rebar.estimate_gradient("nothing", lambda b: b[:, 0], x, seed=0, step=0),
    "categorical": lambda x: rebar.estimate_gradient(
        "loo", lambda z: z, x, family="categorical", seed=0, step=0
    ),
    **{
        name: lambda x, layer=layer: layer(x, seed=0, step=0.5)
        for name, layer in straight_through.LAYERS.items()
    },
    "fold_in": lambda x: rebar.noise.fold_in([0, 0], x),
    "enumeration": lambda x: enumeration.all_states([(20,)]),
}  # fmt: skip

WRAPPERS = {
    "autograph": lambda f: tf.function(f),
    "plain graph": lambda f: tf.function(f, autograph=False),
    "nested": lambda f: tf.function(lambda x: tf.function(f)(x)),
    "jit": lambda f: tf.function(f, jit_compile=True),
    "conditional": lambda f: tf.function(
        lambda x: tf.cond(x[0, 0] > 0, lambda: f(x), lambda: f(x))
    ),
    "map": lambda f: lambda x: next(iter(tf.data.Dataset.from_tensors(x).map(f))),
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_class_and_the_message_are_kept(mistake, wrapper):
    with pytest.raises(RebarError) as eager:
        MISTAKES[mistake](LOGITS)
    with pytest.raises(RebarError) as traced:
        WRAPPERS[wrapper](MISTAKES[mistake])(LOGITS)
    assert type(traced.value) is RebarError
    assert str(traced.value).split(":")[0] == str(eager.value).split(":")[0]


def test_in_a_keras_model():
    class Layer(keras.layers.Layer):
        def call(self, logits):
            return straight_through.reinmax(logits, temperature=-1, seed=0, step=0).z

    model = keras.Sequential([keras.layers.Dense(3), Layer()])
    model.compile("sgd", "mse")
    with pytest.raises(RebarError, match="temperature"):
        model.fit(LOGITS, LOGITS, verbose=0)
