"""Methods of `rebar.estimate_gradient` for categorical logits with several dependent samples."""

from collections.abc import Callable

import tensorflow as tf

from rebar.core import category_trees, coupled, local_expectation, swapped, without_replacement
from rebar.errors import RebarError
from rebar.functional import arguments
from rebar.functional.problem import Problem, values


def carms(problem):
    """n coupled samples; noise [1 + n, ...], of which the last n need two numbers per variable."""
    n = arguments.count_of(problem.options["n_antithetic"], "n_antithetic", 2)
    u = problem.uniforms(1 + n)
    further = tf.cast(tf.transpose(u[1:, ..., :2], [0, 3, 1, 2]), tf.float64)
    gradient, f, samples = _estimate(problem, u[0], lambda z, a: coupled.chains(z, a, further))
    return gradient, tf.reduce_mean(f, axis=0), n, samples


def disarm(tree: Callable, weighted: bool = False) -> Callable:
    """Return the method of antithetic pairs; noise [2, ...], without the last category's."""

    def compute(problem):
        u, further = tf.unstack(problem.uniforms(2), 2)
        gradient, f, samples = _estimate(
            problem, u, lambda z, a: category_trees.chains(z, a, further[..., :-1], tree, weighted)
        )
        return gradient, tf.reduce_mean(f, axis=0), 2, samples

    return compute


disarm_sb, disarm_tree = disarm(category_trees.stick), disarm(category_trees.balanced)
disarm_iw = disarm(category_trees.stick, weighted=True)


def arsm(problem):
    """The samples of swapped noise; the value is that of the first one."""
    u = problem.uniforms()
    gradient, f, samples = _estimate(problem, u, lambda _, logits: swapped.chains(logits, u))
    return gradient, f[0], samples.shape[0], samples


def unord(problem):
    """k codes; noise [1 + k, ...]; the value is that of the first one."""
    k = arguments.count_of(problem.options["n_codes"], "n_codes", 2)
    if k > without_replacement.MOST_CODES:
        raise RebarError(
            f"n_codes={k}: must be at most {without_replacement.MOST_CODES}; use fewer codes"
        )
    u = problem.uniforms(1 + k)
    further = tf.cast(tf.transpose(u[1:], [2, 1, 0, 3]), tf.float64)
    gradient, f, samples = _estimate(
        problem, u[0], lambda z, a: without_replacement.chains(z, a, further)
    )
    return gradient, f[0], samples.shape[0], samples


def indecater(problem):
    """All neighbors of a sample, whose value is returned."""
    return _local(problem, problem.logits.shape[2])


def sum_and_sample(problem):
    """The neighbors in `n_exact` categories; the value is that of the sample."""
    return _local(problem, arguments.count_of(problem.options["n_exact"], "n_exact", 1))


def _local(problem, count):
    n_variables, n_categories = problem.logits.shape[1:]
    if n_variables is None:
        raise RebarError("logits: must have a static number of latent variables; set their shape")
    u = problem.uniforms()
    gumbels, count = problem.family.noise(u), min(count, n_categories - 1)
    gradient, f, samples = _estimate(
        problem, u, lambda z, a: local_expectation.chains(z, a, gumbels, count)
    )
    return gradient, f[0], samples.shape[0], samples


def _estimate(problem: Problem, u: tf.Tensor, chains: Callable) -> tuple:
    """Return the gradient, f [M, B] and the samples [M, B, V, C], the first of which is that of u.

    Args:
      problem: arguments of the method.
      u: [B, V, C] uniforms.
      chains: function of the first sample and logits that returns the others, and the gradient as a
        function of f.
    """
    z = problem.hard(u)
    others, gradient = chains(z, problem.logits)
    samples = tf.concat([z[tf.newaxis], others], axis=0)
    f = values(problem.f, samples, samples.shape[0])
    return gradient(tf.stop_gradient(f)), f, samples
