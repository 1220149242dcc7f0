"""The straight-through kernels against the numbers of the ReinMax authors' code, float64."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rebar.core import categorical, straight_through
from rebar.core.categorical import softmax_product
from rebar.core.straight_through import FromUniforms

FILE = Path(__file__).parents[1] / "goldens" / "reinmax" / "reinmax_estimators.npz"
with np.load(FILE, allow_pickle=False) as archive:
    GOLDEN = {key: archive[key] for key in archive.files}

LOGITS, SAMPLE, G = (tf.constant(GOLDEN[k]) for k in ("logits", "sample_onehot", "upstream_g"))
GUMBELS, FRESH = (tf.constant(GOLDEN[k]) for k in ("gumbel_fwd", "gumbel_fresh"))
EXPONENTIALS = tf.constant(np.moveaxis(GOLDEN["exp_rao"], -1, 0))
BETAS = (-0.2, 0.0, 0.25, 0.5, 0.75, 1.0, 1.2)
CASES = {
    **{f"st_tau{t}": ("straight_through", (), (t,)) for t in (1.0, 1.3)},
    **{f"stgs_tau{t}": ("straight_through_gumbel", (GUMBELS,), (t,)) for t in (0.5, 1.0)},
    **{f"gr_tau{t}_K5": ("gumbel_rao", (EXPONENTIALS,), (t,)) for t in (0.5, 1.0)},
    **{f"gst1.0_tau{t}": ("gapped_straight_through", (), (t,)) for t in (0.7, 1.0)},
    **{f"reinmax_tau{t}": ("reinmax", (), (t,)) for t in (1.0, 1.3)},
    **{f"reinmaxrao_tau{t}_K5": ("reinmax_rao", (EXPONENTIALS,), (t,)) for t in (0.7, 1.0)},
    **{
        f"reinmaxcv_{key}_tau{t}_eta{eta}_K5": ("reinmax_cv", (EXPONENTIALS, g), (t, eta, form))
        for key, g, form in (("code", GUMBELS, "released"), ("freshG", FRESH, "stgs"))
        for t in (0.7, 1.0)
        for eta in (0.5, 1.0, 1.5, 2.0)
    },
    **{
        f"rk2{key}_beta{beta}": ("reinmax_rk2", (), (beta, form))
        for key, form in (("main", "released"), ("derived", "consistent"))
        for beta in BETAS
    },
}
"""Golden -> kernel, noise, options."""


def close(ours, golden):
    """Compare with a tolerance of 1e-12 of the largest entry."""
    largest = np.max(np.abs(golden))
    assert largest > 1e-3
    np.testing.assert_allclose(ours, golden, rtol=0, atol=1e-12 * largest)


def check(case):
    name, noise, options = CASES[case]
    close(
        getattr(straight_through, name)(LOGITS, SAMPLE, G, *noise, *options), GOLDEN[f"grad_{case}"]
    )


@pytest.mark.parametrize("case", CASES)
def test_kernels(case):
    check(case)


@pytest.mark.parametrize("case", CASES)
def test_samplers(case):
    name, noise, options = CASES[case]
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        kernel = getattr(straight_through, name)
        z = straight_through.differentiable_sample(kernel, LOGITS, GUMBELS, *noise, *options)
    np.testing.assert_array_equal(z, SAMPLE)
    close(tape.gradient(z, LOGITS, output_gradients=G), GOLDEN[f"grad_{case}"])


def test_probabilities():
    close(tf.nn.softmax(LOGITS), GOLDEN["pi"])
    score = categorical.score(SAMPLE, LOGITS)
    close(
        tf.constant(GOLDEN["f_linear"])[:, tf.newaxis, tf.newaxis] * score, GOLDEN["grad_reinforce"]
    )
    for logits, key in (
        (LOGITS, "cond_logits_theta"),
        (tf.math.log((tf.nn.softmax(LOGITS) + SAMPLE) / 2), "cond_logits_thetaD"),
    ):
        result = categorical.conditional_logits(logits, SAMPLE, EXPONENTIALS)
        close(np.moveaxis(result, 0, -1), GOLDEN[key])
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        kl = categorical.kl_to(LOGITS, tf.zeros_like(LOGITS))
    close(tape.gradient(kl, LOGITS), GOLDEN["grad_kl_uniform"])


def test_draws_in_chunks(monkeypatch):
    """5 draws as 2 + 2 + 1, as 1 each, and from uniforms."""
    uniforms = FromUniforms(tf.exp(-EXPONENTIALS))
    for draws in (1, 2, 5):
        monkeypatch.setattr(straight_through, "_CHUNK_ELEMENTS", draws * 24)
        for noise in (EXPONENTIALS, uniforms):
            result = straight_through.gumbel_rao(LOGITS, SAMPLE, G, noise, 0.5)
            close(result, GOLDEN["grad_gr_tau0.5_K5"])


# Faults planted in each kernel are detected.


def _no_division(logits, one_hot, g, temperature=1):
    return softmax_product(tf.nn.softmax(logits / temperature), g)


def _gumbels_after_the_division(logits, one_hot, g, gumbels, temperature=1):
    return softmax_product(tf.nn.softmax(logits / temperature + gumbels), g) / temperature


def _not_given_the_sample(logits, one_hot, g, exponentials, temperature=1):
    p = tf.nn.softmax((logits - tf.math.log(exponentials)) / temperature)
    return tf.reduce_mean(softmax_product(p, g), axis=0) / temperature


def _gap_at_the_sample_too(logits, one_hot, g, temperature=1, gap=1):
    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    t = tf.minimum(shifted * (1 - one_hot), -gap)
    return softmax_product(tf.nn.softmax(t / temperature), g) / temperature


def _first_order_only(logits, one_hot, g, temperature=1):
    return 2 * softmax_product((tf.nn.softmax(logits / temperature) + one_hot) / 2, g)


def _at_the_logits(logits, one_hot, g, exponentials, temperature=1):
    rao = straight_through.gumbel_rao(logits, one_hot, g, exponentials, temperature)
    return 2 * rao - softmax_product(tf.nn.softmax(logits), g) / 2


def _other_form(kernel, forms):
    swapped = dict(zip(forms, reversed(forms), strict=True))
    return lambda *arguments: kernel(*arguments[:-1], swapped[arguments[-1]])


FAULTS = {
    "st_tau1.3": _no_division,
    "stgs_tau0.5": _gumbels_after_the_division,
    "gr_tau1.0_K5": _not_given_the_sample,
    "gst1.0_tau1.0": _gap_at_the_sample_too,
    "reinmax_tau1.0": _first_order_only,
    "reinmaxrao_tau1.0_K5": _at_the_logits,
    "reinmaxcv_code_tau1.0_eta0.5_K5": _other_form(
        straight_through.reinmax_cv, straight_through.FORMS["reinmax_cv"]
    ),
    "rk2main_beta0.75": _other_form(
        straight_through.reinmax_rk2, straight_through.FORMS["reinmax_rk2"]
    ),
}


def test_every_kernel_has_a_fault():
    assert {CASES[case][0] for case in FAULTS} == {name for name, *_ in CASES.values()}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_found(case, monkeypatch):
    check(case)
    monkeypatch.setattr(straight_through, CASES[case][0], FAULTS[case])
    with pytest.raises(AssertionError):
        check(case)
