"""Formulas of `rebar.estimate_gradient` in NumPy, for an f of known derivative.

Derivatives along noise are central differences.
"""

import numpy as np
import tensorflow as tf

from rebar import noise
from tests.conformance.literal import categorical, coupled, kernels

B, L, C, H = 3, 2, 4, 3
RANDOM = np.random.default_rng(0)
CATEGORICAL = RANDOM.normal(size=[B, L, C])
BINARY = RANDOM.normal(size=[B, H])
MATRICES = {width: RANDOM.normal(size=[width, width]) for width in (H, L * C)}
SEED, STEP = (3, 1), 7


def f(z):
    """z' A z + sum of cubes, [B]: a tensor or an array."""
    module = np if isinstance(z, np.ndarray) else tf
    flat = module.reshape(z, [z.shape[0], -1])
    matrix = MATRICES[flat.shape[1]]
    product = module.matmul(flat, tf.constant(matrix, flat.dtype) if module is tf else matrix)
    total = np.sum if module is np else tf.reduce_sum
    return total(product * flat, axis=1) + total(flat**3, axis=1)


def derivative_of_f(z):
    flat = z.reshape(len(z), -1)
    matrix = MATRICES[flat.shape[1]]
    return (flat @ (matrix + matrix.T) + 3 * flat**2).reshape(z.shape)


def uniforms(shape, *purpose):
    """Uniforms of a call: stream "latents", the purpose 1 or 2 of further noise, and the step."""
    return noise.uniforms(
        noise.fold_in(noise.key(SEED, "latents", *purpose), STEP), shape, "float64"
    ).numpy()


def gumbels(u):
    return -np.log(-np.log(u))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def logit(u):
    return np.log(u) - np.log(1 - u)


def network(z):
    """Control variate of relax, a tensor or an array."""
    module = np if isinstance(z, np.ndarray) else tf
    return (np.sum if module is np else tf.reduce_sum)(module.sin(z), axis=1)


def slope(function, a, h=1e-5):
    """Derivative w.r.t. a [B, ...] of function(a) [B], whose rows are independent."""
    result = np.zeros(a.shape)
    for i in np.ndindex(a.shape[1:]):
        shift = np.zeros(a.shape)
        shift[(slice(None), *i)] = h
        result[(slice(None), *i)] = (function(a + shift) - function(a - shift)) / (2 * h)
    return result


def softmax(a):
    return np.apply_along_axis(kernels.softmax, -1, a)


def column(values, a):
    """[B] against [B, ...]."""
    return values.reshape(-1, *[1] * (a.ndim - 1))


def hard(a, u):
    """Samples [..., *shape of a]."""
    if a.ndim == 2:
        return (u > 1 - sigmoid(a)) * 1.0
    return np.eye(C)[np.argmax(a + gumbels(u), axis=-1)]


def score(a, b):
    return b - (sigmoid(a) if a.ndim == 2 else softmax(a))


def conditional_noise(a, b, u, v):
    """Noise given b, a function of the logits with the uniforms v; by default those of the u."""
    if a.ndim == 2:
        p = sigmoid(a)
        w = np.where(b == 1, (u - 1 + p) / p, u / (1 - p)) if v is None else v

        def given_b(logits):
            low = 1 - sigmoid(logits)
            return logit(np.where(b == 1, low + (1 - low) * w, low * w))

        return given_b
    if v is None:
        inverse = -np.log(u) * np.exp(-a)  # exp(-c)
        top = np.sum(b * inverse, axis=-1, keepdims=True)
        total = np.sum(np.exp(a), axis=-1, keepdims=True)
        e = np.where(b == 1, top * total, np.exp(a) * (inverse - top))
    else:
        e = -np.log(v)

    def given_b(logits):
        top = np.sum(b * e, axis=-1, keepdims=True)
        top = top / np.sum(np.exp(logits), axis=-1, keepdims=True)
        return -np.log(np.where(b == 1, top, e / np.exp(logits) + top)) - logits

    return given_b


def formula(
    method,
    a,
    n_samples=1,
    temperature=None,
    muprop_relaxation=None,
    scale=None,
    v=None,
    network=None,
    relaxed_f=True,
    baseline=0,
    differentiable=None,
    n_antithetic=1,
    n_codes=1,
    n_exact=C,
):
    """Gradient, value [B] and evaluations for logits a, [B, H] or [B, L, C]."""
    if method == "exact":
        gradient = value = 0
        states = [*np.ndindex(*([2] * H if a.ndim == 2 else [C] * L))]
        for state in states:
            b = np.array(state) * 1.0 if a.ndim == 2 else np.eye(C)[list(state)]
            b = np.broadcast_to(b, a.shape)
            p = np.abs(1 - b - sigmoid(a)) if a.ndim == 2 else np.sum(softmax(a) * b, axis=-1)
            weighted = np.prod(p, axis=1) * f(b)
            value, gradient = value + weighted, gradient + column(weighted, a) * score(a, b)
        return gradient, value, len(states)
    if method == "arms":
        return arms(a, n_antithetic)
    if method in ("carms", "arsm", "unord") or method.startswith("disarm_"):
        return of_categories(method, a, n_antithetic, n_codes)
    if method in ("indecater", "sum_and_sample"):
        return local_expectation(a, min(n_exact, C - 1))
    u = uniforms([*[n_samples] * (method in ("loo", "double_cv")), *a.shape])
    b = hard(a, u)
    if method == "reinforce":
        return column(f(b) - baseline, a) * score(a, b), f(b), 1
    if method == "loo":
        values = np.stack([f(row) for row in b])
        others = [np.delete(values, k, axis=0).mean(axis=0) for k in range(n_samples)]
        terms = [column(values[k] - others[k], a) * score(a, b[k]) for k in range(n_samples)]
        return np.mean(terms, axis=0), values.mean(axis=0), n_samples
    if method == "leg":
        return leg(a, b)
    if method == "double_cv":
        return double_cv(a, b, scale)
    if method in ("arm", "disarm"):
        other = (u < sigmoid(a)) * 1.0
        difference = (f(b) - f(other))[:, None]
        factor = u - 1 / 2
        if method == "disarm":
            factor = (-1.0) ** other * (b != other) * sigmoid(np.abs(a)) / 2
        return difference * factor, (f(b) + f(other)) / 2, 2
    noise_of = logit if a.ndim == 2 else gumbels

    def relaxed(logits, z):
        correction = logits * temperature / (temperature + 1) if muprop_relaxation else 0
        return (sigmoid if a.ndim == 2 else softmax)((logits + z) / temperature + correction)

    if method == "gumbel":
        return slope(lambda k: f(relaxed(k, noise_of(u))), a), f(b), 2

    def c(logits, z):
        value = f(relaxed(logits, z)) if relaxed_f else 0
        if network:
            normalized = logits if a.ndim == 2 else np.log(softmax(logits))
            value = value + network((normalized + z).reshape(B, -1))
        return scale * value

    given_b = conditional_noise(a, b, u, v)
    gradient = column(f(b) - c(a, given_b(a)), a) * score(a, b)
    gradient += slope(lambda k: c(k, noise_of(u)), a) - slope(lambda k: c(k, given_b(k)), a)
    return gradient, f(b), 1 + relaxed_f * (1 if v is None else 2)


def of_categories(method, a, n, k):
    """Formulas of `literal.coupled`; the first uniforms are of the first sample."""
    count = {"carms": [1 + n], "unord": [1 + k], "arsm": []}.get(method, [2])
    u = uniforms([*count, *a.shape])
    first, pi = u[0] if count else u, softmax(a)
    z = np.argmax(hard(a, first), axis=-1)

    def value(categories):
        return f(np.eye(C)[categories])

    if method == "carms":
        gradient, values = coupled.carms_gradient(
            z, pi, u[1:, ..., :2].transpose(0, 3, 1, 2), value
        )
    elif method == "unord":
        gradient, values = coupled.unord_gradient(z, pi, u[1:].transpose(2, 1, 0, 3), value)
        return gradient, values[0], k
    elif method == "arsm":
        gradient, values = coupled.arsm_gradient(pi, u, value)
        return gradient, values[0, 0], 1 + C * (C - 1) // 2
    else:
        of_pair = coupled.DISARM[method.removeprefix("disarm_")]
        gradient, values = of_pair(z, pi, u[1, ..., :-1], value)
    return gradient, values.mean(0), len(values)


def local_expectation(a, k):
    """k categories of each variable are summed."""
    noisy = a + gumbels(uniforms(a.shape))
    z, values = np.eye(C)[np.argmax(noisy, axis=-1)], np.zeros(a.shape)
    for v, category in np.ndindex(a.shape[1:]):
        other = z.copy()
        other[:, v] = np.eye(C)[category]
        values[:, v, category] = f(other)
    gradient = categorical.sum_and_sample_gradient(a, noisy, values, k)
    return gradient, f(z), 1 + a.shape[1] * k


def arms(a, n):
    """The first uniforms are of one sample, the others of the Dirichlet vector of the rest."""
    u, p = uniforms([n, *a.shape]), sigmoid(a)
    e = -np.log(u[1:])
    rest = np.where(p < 0.5, 1 - u[0], u[0]) ** (1 / (n - 1))
    v = (1 - rest * e / e.sum(0)) ** (n - 1)
    samples = np.concatenate([hard(a, u[:1]), np.where(p < 0.5, v < p, v >= 1 - p)])

    def joint(r):
        return np.maximum(2 * r ** (1 / (n - 1)) - 1, 0) ** (n - 1)

    both = np.where(p < 0.5, joint(p), 2 * p - 1 + joint(1 - p))
    values = np.stack([f(b) for b in samples])
    terms = [column(v - values.mean(0), a) * (b - p) for v, b in zip(values, samples, strict=True)]
    return p * (1 - p) / (p - both) / (n - 1) * sum(terms), values.mean(0), n


def double_cv(a, b, scale):
    n, values, means, terms = len(b), [], [], []
    for k in range(n):
        d = np.mean([derivative_of_f(b[j]) for j in range(n) if j != k], axis=0)
        values.append(f(b[k]) + scale * np.sum((score(a, b[k]) * d).reshape(B, -1), axis=1))
        m = b[k] - score(a, b[k])
        product = m * d - m * (m * d if a.ndim == 2 else np.sum(m * d, axis=-1, keepdims=True))
        means.append(scale * product)
    for k in range(n):
        signal = values[k] - np.delete(values, k, axis=0).mean(0)
        terms.append(column(signal, a) * score(a, b[k]) - means[k])
    return np.mean(terms, axis=0), np.mean([f(z) for z in b], axis=0), n


def leg(a, b):
    gradient, p = np.zeros(a.shape), sigmoid(a)
    for i in range(a.shape[1]):
        on, off = b.copy(), b.copy()
        on[:, i], off[:, i] = 1, 0
        gradient[:, i] = p[:, i] * (1 - p[:, i]) * (f(on) - f(off))
    return gradient, f(b), 1 + a.shape[1]
