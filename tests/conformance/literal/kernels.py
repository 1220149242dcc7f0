"""Straight-through kernels in NumPy, one variable at a time, with Jacobians of size C x C.

Each takes logits a [C], the one-hot sample d, the derivative g of f at d, Gumbels G [C],
exponentials E [K, C] and the names of options in `rebar.straight_through`, and returns s [C].
"""

import numpy as np


def softmax(a):
    """Probabilities [C] of logits."""
    e = np.exp(a - np.max(a))
    return e / np.sum(e)


def jacobian(p):
    """Of softmax at probabilities p: diag(p) - p p'."""
    return np.diag(p) - np.outer(p, p)


def conditional(a, d, exponentials):
    """Perturbed logits [C] given that d is the largest: Paulus et al. 2021, equation 8."""
    w, k = np.exp(a), np.argmax(d)
    c = -np.log(exponentials / w + exponentials[k] / np.sum(w))
    c[k] = -np.log(exponentials[k] / np.sum(w))
    return c


def middle(a, d):
    """log((pi + d) / 2)."""
    return np.log((softmax(a) + d) / 2)


def st(a, d, g, temperature, **_):
    return jacobian(softmax(a / temperature)) @ g / temperature


def decoupled_st(a, d, g, forward_temperature, backward_temperature, **_):
    return st(a, d, g, backward_temperature)


def st_gumbel(a, d, g, temperature, gumbels, **_):
    return jacobian(softmax((a + gumbels) / temperature)) @ g / temperature


def gumbel_rao(a, d, g, temperature, exponentials, **_):
    terms = [st(conditional(a, d, e), d, g, temperature) for e in exponentials]
    return sum(terms) / len(terms)


def gst(a, d, g, temperature, gap, **_):
    lowered = np.maximum(a - np.max(a) + gap, 0) * (1 - d)
    return st(a + (np.max(a) - a @ d) * d - lowered, d, g, temperature)


def reinmax(a, d, g, temperature, **_):
    pi = softmax(a)
    return 2 * jacobian((softmax(a / temperature) + d) / 2) @ g - 1 / 2 * jacobian(pi) @ g


def zgr(a, d, g, **_):
    pi = softmax(a)
    return 1 / 2 * jacobian(pi) @ g + 1 / 2 * (d - pi) * ((d - pi) @ g)


def reinmax_rao(a, d, g, temperature, exponentials, **_):
    rao = gumbel_rao(middle(a, d), d, g, temperature, exponentials)
    return 2 * rao - 1 / 2 * jacobian(softmax(a)) @ g


def reinmax_cv(a, d, g, temperature, exponentials, gumbels, fresh, scale, form, **_):
    rao = gumbel_rao(middle(a, d), d, g, temperature, exponentials)
    if form == "released":
        y = softmax((a + gumbels) / temperature)
        second = jacobian(softmax(middle(a, d) + y)) @ g / temperature
    else:
        second = jacobian(softmax((middle(a, d) + fresh) / temperature)) @ g / temperature
    return reinmax(a, d, g, 1) + scale * (rao - second)


def reinmax_rk2(a, d, g, beta, form, **_):
    pi = softmax(a)
    if form == "consistent":
        return beta * jacobian(pi) @ g + (1 - beta) * (d - pi) * ((d - pi) @ g)
    m = (pi + d) / 2
    r = 2 * m * (g - (beta * pi + (1 - beta) * d) @ g) - (1 - beta) * jacobian(pi) @ g
    return r - np.mean(r)


KERNELS = {
    kernel.__name__: kernel
    for kernel in (
        *(
            st,
            decoupled_st,
            st_gumbel,
            gumbel_rao,
            gst,
            reinmax,
            reinmax_rao,
            reinmax_cv,
            reinmax_rk2,
        ),
        zgr,
    )
}
"""Name of the layer -> kernel; and that of ZGR, which has none."""


def every(kernel, logits, one_hot, g, exponentials=None, gumbels=None, fresh=None, **options):
    """Apply a kernel to each variable of [..., C]; exponentials are [K, ..., C]."""
    result = np.zeros(logits.shape)
    for i in np.ndindex(logits.shape[:-1]):
        noise = {
            "exponentials": None if exponentials is None else exponentials[(slice(None), *i)],
            "gumbels": None if gumbels is None else gumbels[i],
            "fresh": None if fresh is None else fresh[i],
        }
        result[i] = kernel(logits[i], one_hot[i], g[i], **noise, **options)
    return result
