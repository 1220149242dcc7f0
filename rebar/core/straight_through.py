"""Straight-through estimators for categorical variables: surrogates for dE L / dlogits.

With logits l [..., C], pi = softmax(l), the one-hot sample D, the upstream gradient g = dL/dz at
z = D, and J(p) g = p (g - <p, g>), each kernel (logits, one_hot, g, noise, options) -> [..., C] is
a surrogate for the gradient w.r.t. l, from one evaluation of L and its gradient.
`differentiable_sample` returns D with a kernel as its backward pass. "Exact for linear L" means
unbiased for L that is linear in each latent variable given the others.

    kernel                   published as
    straight_through         ST
    straight_through_gumbel  ST-GS
    gumbel_rao               GR-K
    gapped_straight_through  GST
    reinmax                  ReinMax; ZGR at T = 1
    reinmax_rao              ReinMax-Rao
    reinmax_cv               ReinMax-CV
    reinmax_rk2              ReinMax-RK2

    logits, gumbels, one_hot, g    [..., C]
    exponentials    [K, ..., C] ~ Exp(1), K draws, or `FromWords` or `FromUniforms` for many draws
    temperature (1), gap (1), scale (1), beta (1/2)   numbers, or tensors without a gradient

The temperature never changes D. Every gradient sums to zero over the categories. `diffused_sample`
is ReDGE and ReinDGE, whose D does not follow pi.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from rebar.core import categorical
from rebar.core.categorical import is_one, perturbed, softmax_product
from rebar.core.validity import positive

_CHUNK_ELEMENTS = 2**19
_CHUNK_DRAWS = 10


class FromUniforms(NamedTuple):
    """Exponentials as -log of uniforms [K, ..., C], computed in chunks to save memory."""

    uniforms: tf.Tensor


class FromWords(NamedTuple):
    """Exponentials of K = `count` draws from words [(K + 1) // 2, ..., C] (uint32), 16 bits each.

    See `categorical.halves`.
    """

    words: tf.Tensor
    count: int  # type: ignore[assignment]


FORMS = {"reinmax_cv": ("released", "stgs"), "reinmax_rk2": ("consistent", "released")}
"""Kernel -> its forms, the default first."""


def straight_through(logits, one_hot, g, temperature=1):
    """J(softmax(l / T)) g / T.

    Biased; exact at T = 1 for linear L. Depends on D through g alone. Bengio et al. 2013 (arXiv
    1308.3432).
    """
    del one_hot
    temperature = positive(temperature, "temperature")
    return softmax_product(tf.nn.softmax(logits / temperature), g) / temperature


def straight_through_gumbel(logits, one_hot, g, gumbels, temperature=1):
    """J(y) g / T, y = softmax((l + G) / T), for D = argmax(l + G) of the same G.

    Biased, also for linear L. Jang et al. 2017 (arXiv 1611.01144), section 2.2.
    """
    del one_hot
    temperature = positive(temperature, "temperature")
    return softmax_product(tf.nn.softmax(perturbed(logits, gumbels) / temperature), g) / temperature


def gumbel_rao(logits, one_hot, g, exponentials, temperature=1):
    """1/K sum_k J(softmax(c_k / T)) g / T, c_k = l + G redrawn given D.

    Tends to the mean of `straight_through_gumbel` given D as K grows: the same bias, and variance
    Var_D + E Var(. | D) / K. Paulus et al. 2021 (arXiv 2010.04838), equation 9. Published code
    forms a C x C Jacobian per draw; this code does not.
    """
    return _mean_over_draws(tf.nn.log_softmax(logits), one_hot, g, exponentials, temperature)


def gapped_straight_through(logits, one_hot, g, temperature=1, gap=1):
    """J(softmax(t / T)) g / T,  t = l + (max l - l_D) D - m.

    m_j = max(l_j - max l + gap, 0) and m_D = 0: in the logits t, D exceeds the others by at least
    the gap. Biased. Fan et al. 2022 (arXiv 2206.07235), with gap 1.
    """
    temperature, gap = positive(temperature, "temperature"), positive(gap, "gap")
    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    t = (1 - one_hot) * tf.minimum(shifted, -gap)
    return softmax_product(tf.nn.softmax(t / temperature), g) / temperature


def reinmax(logits, one_hot, g, temperature=1):
    """2 J((softmax(l / T) + D) / 2) g - 1/2 J(pi) g.

    Biased; exact at T = 1 for quadratic L. At T = 1 it is 1/2 J(pi) g + 1/2 (D - pi) <D - pi, g>,
    computed as 1/2 (pi h - D <pi, h>) with h = g - g_D. Liu et al. 2023 (arXiv 2304.08612),
    algorithm 2.
    """
    temperature = positive(temperature, "temperature")
    h = _from_sample(g, one_hot)
    pi = tf.nn.softmax(logits)
    if is_one(temperature):
        return (pi * h - one_hot * _dot(pi, h)) / 2
    q = tf.nn.softmax(logits / temperature)
    return (q + one_hot) * (h - _dot(q, h) / 2) - softmax_product(pi, h) / 2


def reinmax_rao(logits, one_hot, g, exponentials, temperature=1):
    """2 GR - 1/2 J(pi) g, GR = `gumbel_rao` given D at the logits log((pi + D) / 2).

    ReinMax with Gumbel-Rao as its first term. Biased, also for quadratic L. Wang & Bui 2026 (arXiv
    2603.08257).
    """
    middle = _mean_over_draws(_log_middle(logits, one_hot), one_hot, g, exponentials, temperature)
    return 2 * middle - softmax_product(tf.nn.softmax(logits), _from_sample(g, one_hot)) / 2


def reinmax_cv(logits, one_hot, g, exponentials, gumbels, temperature=1, scale=1, form="released"):
    """ReinMax(T = 1) + scale (GR - s), GR as in `reinmax_rao`. With l_D = log((pi + D) / 2):

        form="released"   s = J(softmax(l_D + y)) g / T, y = softmax((l + G) / T), G those of D
        form="stgs"       s = J(softmax((l_D + G) / T)) g / T, G independent of D

    Biased. Wang & Bui 2026 (arXiv 2603.08257). "stgs" is the paper's formula, "released" that of
    the authors' code and curves. ReinMax is deterministic given D, so a term with mean zero given D
    can only add variance; "stgs" does, and its mean is not exactly zero. "released" adds more bias
    and, unless one category dominates, reduces the variance (measured:
    tests/core/test_straight_through.py).
    """
    temperature = positive(temperature, "temperature")
    log_middle = _log_middle(logits, one_hot)
    rao = _mean_over_draws(log_middle, one_hot, g, exponentials, temperature)
    if form == "stgs":
        p = tf.nn.softmax((log_middle + gumbels) / temperature)
    else:
        y = tf.nn.softmax(perturbed(logits, gumbels) / temperature)
        p = tf.nn.softmax(log_middle + y)
    second = softmax_product(p, _from_sample(g, one_hot)) / temperature
    return reinmax(logits, one_hot, g) + scale * (rao - second)


def reinmax_rk2(logits, one_hot, g, beta=0.5, form="consistent"):
    """Second-order Runge-Kutta step with the node beta, b below.

        form="consistent"  b J(pi) g + (1 - b) (D - pi) <D - pi, g>
        form="released"    r - mean of r over the categories,
                           r = 2 m (g - <b pi + (1 - b) D, g>) - (1 - b) J(pi) g,  m = (pi + D) / 2

    Biased. "consistent" is exact for linear L at every b; at b = 1/2 it is `reinmax`, at b = 1
    `straight_through`, both at T = 1. "released" is the code of Wang & Bui 2026 (arXiv 2603.08257),
    equal at b = 1/2; elsewhere its mean for linear L is 2 b times the gradient.
    """
    pi, h = tf.nn.softmax(logits), _from_sample(g, one_hot)
    along = _dot(pi, h)
    if form == "released":
        r = (pi + one_hot) * (h - beta * along) - (1 - beta) * pi * (h - along)
        return r - tf.reduce_mean(r, axis=-1, keepdims=True)
    return beta * pi * (h - along) - (1 - beta) * (one_hot - pi) * along


def differentiable_sample(
    kernel: Callable, logits: tf.Tensor, gumbels: tf.Tensor, *arguments: Any, **options: Any
) -> tf.Tensor:
    """D [..., C] with the gradient kernel(logits, one_hot, g, *arguments, **options)."""

    @tf.custom_gradient
    def sample(logits):
        one_hot = categorical.hard_sample(logits, gumbels)
        return tf.identity(one_hot), lambda g: kernel(logits, one_hot, g, *arguments, **options)

    return sample(logits)


def diffused_sample(
    logits: tf.Tensor,
    gumbels: tf.Tensor,
    normals: tf.Tensor,
    steps: int,
    end: Any,
    second_order: bool = False,
) -> tf.Tensor:
    """D ~ p of a diffusion that starts at Gaussian noise, with the gradient through it.

    With n = steps, a_t on a line from 1 - end at t = 1 to 0 at t = n - 1, and s_t = 1 - a_t,

        x_{n-1} = Gaussian noise,           p_t = softmax(l + a_t x_t / s_t^2)
        x_{t-1} = a_{t-1} p_t + s_{t-1} (x_t - a_t p_t) / s_t,         p = p_1

    p_t is the mean of a one-hot sample of softmax(l) given x_t = a_t times it plus s_t times noise.
    The gradient is J(p) g, through l and x_1 in p and through the chain.

    `second_order`: with respect to l in p it is 1/2 J(p) g + 1/2 (D - p) <D - p, g> instead, which
    is `reinmax` at the logits of p.

    Biased, and D DOES NOT FOLLOW softmax(l): the chain is exact for infinitely many steps alone.
    With two steps there is no chain, and the noise does not depend on l at all. Gourevitch et al.
    2026 (arXiv 2601.00781): ReDGE, and with second_order ReinDGE. Difference from the authors'
    code: a_{n-1} is 0 instead of 1e-4.
    """
    alphas = [(1 - end) * (1 - i / max(steps - 2, 1)) for i in range(steps - 1)]
    x = normals
    for below, alpha in zip(alphas[-2::-1], alphas[:0:-1], strict=True):
        p = tf.nn.softmax(logits + alpha * x / (1 - alpha) ** 2)
        x = below * p + (1 - below) * (x - alpha * p) / (1 - alpha)
    shift = alphas[0] * x / (1 - alphas[0]) ** 2
    if not second_order:
        return differentiable_sample(straight_through, logits + shift, gumbels)
    of_chain = tf.stop_gradient(logits) + shift
    of_logits = logits + tf.stop_gradient(shift)
    # Both are D; the second one has the value 0 and the gradient of `reinmax`.
    second = differentiable_sample(reinmax, of_logits, gumbels)
    return (
        differentiable_sample(straight_through, of_chain, gumbels)
        + second
        - tf.stop_gradient(second)
    )


def _mean_over_draws(log_pi, one_hot, g, draws, temperature):
    """1/K sum_k J(p_k) g / T, p_k = softmax(c_k / T) given D at normalized log_pi [..., C].

    Chunks of draws fit into the processor's cache; only the noise is as large as [K, ..., C].
    """
    temperature = positive(temperature, "temperature")
    h = _from_sample(g, one_hot)

    def summed(e):
        weights = categorical.conditional_weights(log_pi, one_hot, e, temperature)
        p = weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
        return tf.reduce_sum(p * (h - _dot(p, h)), axis=0)

    def of_uniforms(u):
        return summed(categorical.exponentials(u))

    if isinstance(draws, FromWords):
        pairs, count = draws.count // 2, draws.count

        def of_words(words):
            high, low = categorical.halves(words, g.dtype)
            return of_uniforms(high) + of_uniforms(low)

        total = _sum_over_chunks(of_words, draws.words[:pairs]) if pairs else tf.zeros_like(g)
        if count % 2:
            total += of_uniforms(categorical.halves(draws.words[pairs:], g.dtype)[0])
    elif isinstance(draws, FromUniforms):
        count, total = draws.uniforms.shape[0], _sum_over_chunks(of_uniforms, draws.uniforms)
    else:
        count, total = draws.shape[0], _sum_over_chunks(summed, draws)
    return total / (count * temperature)


def _sum_over_chunks(summed, noise):
    """Sum of summed(chunk) [...] over chunks of the leading axis of noise [K, ...]."""
    n_draws, elements = noise.shape[0], noise.shape[1:].num_elements()
    size = _CHUNK_DRAWS if elements is None else max(1, _CHUNK_ELEMENTS // max(1, elements))
    n_chunks = n_draws // size
    if n_chunks < 2:
        return summed(noise)
    even = n_chunks * size
    shape = tf.concat([[n_chunks, size], tf.shape(noise)[1:]], axis=0)
    chunks = tf.reshape(noise[:even], shape)
    first = summed(chunks[0])
    _, total = tf.while_loop(
        lambda i, _: i < n_chunks,
        lambda i, total: (i + 1, total + summed(tf.gather(chunks, i))),
        [1, summed(noise[even:]) + first if even < n_draws else first],
        parallel_iterations=1,
    )
    return total


def _log_middle(logits, one_hot):
    """log((pi + D) / 2) [..., C], finite where pi is too small for a float."""
    log_pi = tf.nn.log_softmax(logits)
    at_sample = tf.math.log1p(tf.exp(log_pi))
    return tf.where(one_hot > 0.5, at_sample, log_pi) - tf.math.log(tf.constant(2, logits.dtype))


def _from_sample(g, one_hot):
    """g - g_D, which has the same J(p) g and loses no digits where p is close to D."""
    return g - _dot(g, one_hot)


def _dot(p, g):
    """<p, g>, [..., 1]."""
    return tf.reduce_sum(p * g, axis=-1, keepdims=True)
