"""Formulas of LEG, BitFlip, UGC and tUGC, one unit at a time."""

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from tests.conformance.literal.common import estimate, main_chain, mean, value_at


def _difference(c, main, layer, units, independent=False):
    """f with a unit on minus f with it off, [N]; `units` are one unit per row.

    The state of the main chain has its value, also if the other continues independently.
    """
    b = main.samples[layer].numpy()
    rows, flipped = np.arange(len(b)), b.copy()
    flipped[rows, units] = 1 - b[rows, units]
    values = main.objective.numpy(), value_at(c, main, layer, flipped, independent)
    on = b[rows, units] == 1
    return np.where(on, values[0], values[1]) - np.where(on, values[1], values[0])


def _estimate(c, cotangent):
    """The estimate whose terms are cotangent(main, layer, b, p), [N, H]."""
    main, _ = main_chain(c)
    layers = enumerate(zip(main.samples, main.logits, strict=True))
    terms = [cotangent(main, i, b.numpy(), mean(logits).numpy()) for i, (b, logits) in layers]
    return estimate(c, main.samples, terms), []


def leg(c):
    independent = c.settings.continuation == "independent"

    def cotangent(main, layer, b, p):
        units = [np.full(len(b), i) for i in range(b.shape[1])]
        differences = [_difference(c, main, layer, i, independent) for i in units]
        return p * (1 - p) * np.stack(differences, axis=1)

    return _estimate(c, cotangent)


def _uniform(c, layer, rows):
    key = noise_module.fold_in(c.noise.key, 32 + layer)
    return noise_module.uniforms(key, [rows], tf.float64).numpy()


def bit_flip(c):
    return _estimate(c, lambda *arguments: _flips(c, *arguments, None))


def _flips(c, main, layer, b, p, sets):
    """The term of one unit per row; sets: units of which it is drawn, per row; None: all."""
    rows = np.arange(len(b))
    sets = sets or [range(b.shape[1])] * len(b)
    u = _uniform(c, layer, len(b))
    units = np.array([s[int(v * len(s))] if len(s) else 0 for s, v in zip(sets, u, strict=True)])
    sizes = np.array([len(s) for s in sets])
    g, chosen = np.zeros(b.shape), p[rows, units]
    difference = _difference(c, main, layer, units)
    g[rows, units] = sizes * chosen * (1 - chosen) * difference
    return g


def _clipped(c, main, layer, b, p, flips, sets):
    """The terms of flips where `flips` [N, H] is true, and DisARM's elsewhere."""
    u = c.noise.uniforms[layer].numpy()
    other = np.where(u < p, 1.0, 0.0)
    f = (main.objective.numpy() - value_at(c, main, layer, other))[:, None]
    pair = np.where(b != other, f / 2 * (-1) ** other * np.maximum(p, 1 - p), 0)
    return np.where(flips, _flips(c, main, layer, b, p, sets), pair)


def ugc(c):
    def cotangent(main, layer, b, p):
        flips = np.minimum(p, 1 - p) < 1 / (2 * b.shape[1])
        return _clipped(c, main, layer, b, p, flips, None)

    return _estimate(c, cotangent)


def truncated_ugc(c):
    def cotangent(main, layer, b, p):
        flips, sets = np.zeros(b.shape, bool), []
        for row, m in enumerate(np.minimum(p, 1 - p)):
            ascending = sorted(range(len(m)), key=lambda i: (m[i], i))
            count = sum(m[i] < 1 / (2 * t) for t, i in enumerate(ascending, 1))
            sets.append(sorted(ascending[:count]))
            flips[row, sets[-1]] = True
        return _clipped(c, main, layer, b, p, flips, sets)

    return _estimate(c, cotangent)
