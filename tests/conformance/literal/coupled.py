"""Formulas of CARMS, DisARM for categories, ARSM and UNORD, one row and one variable at a time."""

import itertools

import numpy as np
import tensorflow as tf

from rebar import noise as noise_module
from tests.conformance.literal.common import descend, main_chain, rollout


def _estimate(c, main, cotangent):
    """- mean_n [ cotangent . d logits + d log p ], of one layer."""

    def surrogate(r):
        return -tf.reduce_mean(tf.reduce_sum(cotangent * r.logits[0], axis=[1, 2]) + r.log_joint)

    return descend(c, main.samples, surrogate), []


def _problem(c):
    """The main chain, its categories [N, V], and probabilities [N, V, C]."""
    main, _ = main_chain(c)
    logits = main.logits[0].numpy()
    pi = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return main, np.argmax(main.samples[0], -1), pi


def _values(c, main):
    """f [N] as a function of categories [N, V]."""
    like = main.samples[0]

    def value(categories):
        one_hot = np.eye(like.shape[-1])[categories]
        return rollout(c, [tf.constant(one_hot, like.dtype)]).objective.numpy()

    return value


def _key(c, number, *more):
    key = noise_module.fold_in(c.noise.key, number)
    for step in more:
        key = noise_module.fold_in(key, step)
    return key


def _interval(order, pi, category):
    """The interval of a category in the sum of probabilities in an order."""
    before = order[: order.index(category)]
    start = sum(pi[k] for k in before)
    return start, start + pi[category]


def carms(c):
    main, z, pi = _problem(c)
    n = dict(c.settings.custom)["n_antithetic"]
    u = noise_module.uniforms(_key(c, 48), [n, 2, *z.shape], tf.float64).numpy()
    return _estimate(c, main, carms_gradient(z, pi, u, _values(c, main))[0])


def carms_gradient(z, pi, u, value):
    """The gradient, and f of all samples; u [n, 2, N, V]."""
    n, (rows, width, size) = len(u), pi.shape
    orders = []
    for i, j in itertools.combinations(range(size), 2):
        orders.append([i, *(k for k in range(size) if k not in (i, j)), j])

    def below(s, t):
        return max(s ** (1 / (n - 1)) + t ** (1 / (n - 1)) - 1, 0) ** (n - 1)

    def pair(p, a, b):
        total = 0
        for order in orders:
            (s0, s1), (t0, t1) = _interval(order, p, a), _interval(order, p, b)
            total += below(s1, t1) - below(s0, t1) - below(s1, t0) + below(s0, t0)
        return total / len(orders)

    samples = np.stack([z] * n)
    for row, v in np.ndindex(rows, width):
        order = orders[int(u[0, 0, row, v] * len(orders))]
        low, high = _interval(order, pi[row, v], z[row, v])
        first = (low + u[0, 1, row, v] * (high - low)) ** (1 / (n - 1))
        e = -np.log(u[1:, 0, row, v])
        for m in range(1, n):
            at = (1 - first * e[m - 1] / e.sum()) ** (n - 1)
            ends = [_interval(order, pi[row, v], k)[1] for k in order]
            samples[m, row, v] = order[int(np.searchsorted(ends, at, side="right"))]
    f = np.stack([value(s) for s in samples])
    g = np.zeros(pi.shape)
    for row, v in np.ndindex(rows, width):
        for m, k in itertools.permutations(range(n), 2):
            a, b = samples[m, row, v], samples[k, row, v]
            if a != b:
                p = pi[row, v]
                r = p[a] * p[b] / pair(p, a, b)
                g[row, v] += (np.eye(size)[a] - p) * r * (f[m, row] - f[k, row]) / (n * (n - 1))
    return g, f


def _stick(categories):
    return [(categories[:1], categories[1:])] + (_stick(categories[1:]) if categories[2:] else [])


def _balanced(categories):
    """Nodes of a tree, level by level."""
    nodes, queue = [], [categories]
    while queue:
        part = queue.pop(0)
        if len(part) > 1:
            half = (len(part) + 1) // 2
            nodes.append((part[:half], part[half:]))
            queue += nodes[-1]
    return nodes


def disarm(tree=_stick, weighted=False):
    """The gradient of a pair of antithetic samples, and f of both; u [N, V, C - 1]."""

    def of_variable(pi, z, u):
        """The antithetic category, and the factor of f - f~ in the logits' cotangent."""
        nodes, uniforms = tree(list(np.argsort(pi, kind="stable"))), iter(u)
        p = [sum(pi[left]) / (sum(pi[left]) + sum(pi[right])) for left, right in nodes]
        turns = []
        for (left, right), p_i in zip(nodes, p, strict=True):
            u_i = next(uniforms)
            # The main chain's uniform is in (0, p), (p, 1) or (0, 1).
            if z in left:
                turns.append(u_i < max(2 * p_i - 1, 0) / p_i)
            elif z in right:
                turns.append(u_i < min(p_i, 1 - p_i) / (1 - p_i))
            else:
                turns.append(u_i < p_i)
        other = next(
            leaf
            for leaf in range(len(pi))
            if all(
                leaf in (left if turn else right) or leaf not in left + right
                for (left, right), turn in zip(nodes, turns, strict=True)
            )
        )
        g = np.zeros(len(pi))
        if weighted:
            if other != z:
                w = 1.0
                for (left, right), p_i in zip(nodes, p, strict=True):
                    if z in right and other in right:
                        w *= (1 - p_i) ** 2 / (1 - 2 * p_i)
                    elif {z, other} <= {*left, *right}:
                        w *= max(p_i, 1 - p_i)
                g[z], g[other] = w / 2, -w / 2
            return other, g
        for (left, right), p_i in zip(nodes, p, strict=True):
            b, b_other = z in left, other in left
            main, antithetic = (leaf in left + right for leaf in (z, other))
            h = 0.0
            if main and antithetic:
                h = 0.5 * (b != b_other) * (-1) ** b_other * max(p_i, 1 - p_i)
            elif main:
                h = 0.5 * (b - p_i)
            elif antithetic:
                h = -0.5 * (b_other - p_i)
            g[left] += h * pi[left] / sum(pi[left])
            g[right] -= h * pi[right] / sum(pi[right])
        return other, g

    def gradient(z, pi, u, value):
        other, factor = np.copy(z), np.zeros(pi.shape)
        for index in np.ndindex(z.shape):
            other[index], factor[index] = of_variable(pi[index], z[index], u[index])
        f = np.stack([value(z), value(other)])
        return (f[0] - f[1])[:, None, None] * factor, f

    return gradient


DISARM = {
    "sb": disarm(),
    "tree": disarm(_balanced),
    "iw": disarm(weighted=True),
}


def _disarm(kind):
    def formula(c):
        main, z, pi = _problem(c)
        shape = [*z.shape, pi.shape[2] - 1]
        u = noise_module.uniforms(_key(c, 64), shape, main.logits[0].dtype).numpy()
        return _estimate(c, main, DISARM[kind](z, pi, u, _values(c, main))[0])

    return formula


disarm_sb, disarm_tree, disarm_iw = map(_disarm, DISARM)


def arsm(c):
    main, _, pi = _problem(c)
    u = np.reshape(c.noise.uniforms[0], pi.shape)
    return _estimate(c, main, arsm_gradient(pi, u, _values(c, main))[0])


def arsm_gradient(pi, u, value):
    """The gradient, and f of all swaps [C, C, N]."""
    size, e = pi.shape[-1], -np.log(u)
    w = e / e.sum(-1, keepdims=True)
    f = np.zeros([size, size, len(pi)])
    for i, j in np.ndindex(size, size):
        swapped = np.copy(w)
        swapped[..., i], swapped[..., j] = w[..., j], w[..., i]
        f[i, j] = value(np.argmin(np.log(swapped) - np.log(pi), -1))
    g = np.zeros(pi.shape)
    for category, j in np.ndindex(size, size):
        signal = f[j, category] - f[j].mean(0)
        g[..., category] += signal[:, None] * (1 / size - w[..., j])
    return g, f


def _set_probability(p, removed=()):
    """Probability of drawing all codes first, in any order, after those removed."""
    total = 0.0
    for order in itertools.permutations(set(range(len(p))) - set(removed)):
        rest, product = 1 - sum(p[i] for i in removed), 1.0
        for i in order:
            product *= p[i] / rest
            rest -= p[i]
        total += product
    return total


def unord(c):
    main, z, pi = _problem(c)
    k, (rows, width, size) = dict(c.settings.custom)["n_codes"], pi.shape
    u = noise_module.uniforms(_key(c, 80), [width, rows, k, size], tf.float64).numpy()
    return _estimate(c, main, unord_gradient(z, pi, u, _values(c, main))[0])


def unord_gradient(z, pi, u, value):
    """The gradient, and f of all codes; u [V, N, k, C]."""
    k, (rows, width, size) = u.shape[2], pi.shape
    codes = np.stack([z] * k)
    for row in range(rows):
        first = [(0.0, 1.0, ())]  # time, probability, prefix
        for v in range(width):
            extended = []
            for number, (time, p, prefix) in enumerate(first):
                a = -np.log(u[v, row, number]) / pi[row, v]
                for category, late in enumerate((a - a.min()) / p):
                    longer = (time + late, p * pi[row, v, category], (*prefix, category))
                    extended.append(longer)
            first = sorted(extended)[:k]
        others = [code for *_, code in first if code != tuple(z[row])]
        codes[1:, row] = others[: k - 1]
    f = np.stack([value(code) for code in codes])
    g = np.zeros(pi.shape)
    for row in range(rows):
        p = [np.prod(pi[row][range(width), code[row]]) for code in codes]
        for s in range(k):
            without = _set_probability(p, [s])
            baseline = p[s] * f[s, row]
            for j in set(range(k)) - {s}:
                baseline += p[j] * _set_probability(p, [s, j]) / without * f[j, row]
            weight = p[s] * without / _set_probability(p)
            g[row] += weight * (f[s, row] - baseline) * (np.eye(size)[codes[s, row]] - pi[row])
    return g, f
