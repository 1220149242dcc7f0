"""The function API, the kernels of its methods, and straight-through layers."""

import tensorflow as tf

from rebar.core import bernoulli, categorical, families, logit_gradients
from rebar.core import straight_through as kernels
from rebar.functional import scores
from tests.conformance.faults.baselines import mean_of_all
from tests.conformance.faults.planting import Fault, replace, times
from tests.core import test_logit_gradients
from tests.core import test_straight_through as test_kernels
from tests.functional import test_relaxed, test_use, test_values_only


def _derivative_of_the_other_side(true):
    def noise_given_sample(b, w, logits):
        return true(b, w, logits)[0], true(1 - b, w, logits)[1]

    return noise_given_sample


def _fixed_maximum(one_hot, gumbels, logits):
    c = categorical.perturbed(logits, gumbels)
    w = tf.exp(c - tf.reduce_sum(one_hot * c, axis=-1, keepdims=True))
    return lambda g: -w * g


def _unweighted(f, f_antithetic, b, b_antithetic, logits):
    return 0.5 * (f - f_antithetic)[:, tf.newaxis] * (b - b_antithetic)


def _free_noise(log_pi, one_hot, exponentials, temperature):
    return tf.exp((log_pi - tf.math.log(exponentials)) / temperature)


def _one_noise(true):
    def gumbel_rao(logits, one_hot, g, exponentials, temperature=1):
        first = tf.repeat(exponentials[:1], exponentials.shape[0], axis=0)
        return true(logits, one_hot, g, first, temperature)

    return gumbel_rao


def _other_node(true):
    def reinmax_rk2(logits, one_hot, g, beta=0.5, form="consistent"):
        return true(logits, one_hot, g, 1 - beta, form)

    return reinmax_rk2


FUNCTIONAL = [
    Fault(
        "nine tenths of the path through the noise",
        replace(bernoulli, "coupling_derivative", times(0.9)),
        lambda: test_relaxed.test_unbiased("rebar", 1),
    ),
    Fault(
        "noise given the sample with the derivative of the other side",
        replace(bernoulli, "noise_given_sample", _derivative_of_the_other_side),
        lambda: test_relaxed.test_unbiased_with_noise_of_its_own("rebar"),
    ),
    Fault(
        "a categorical coupling without the path through the largest logit",
        replace(categorical, "coupling", lambda true: _fixed_maximum),
        lambda: test_relaxed.test_unbiased("rebar", "categorical"),
    ),
    Fault(
        "the score at the soft sample",
        replace(
            families,
            "BERNOULLI",
            lambda true: true._replace(score=lambda b, logits: 0.9 * b - tf.sigmoid(logits)),
        ),
        lambda: test_values_only.test_unbiased_for_a_table("reinforce", 2),
    ),
    Fault(
        "DisARM without the weight of pairs that differ",
        replace(logit_gradients, "disarm", lambda true: _unweighted),
        lambda: test_values_only.test_unbiased_for_a_table("disarm", 2),
    ),
    Fault(
        "ARM about another point than 1/2, with the same mean",
        replace(
            logit_gradients,
            "arm",
            lambda true: lambda f, f_antithetic, u: true(f, f_antithetic, u + 0.1),
        ),
        lambda: test_logit_gradients.test_disarm_is_arm_averaged_over_the_noise_of_a_pair(
            test_logit_gradients.one_unit
        ),
    ),
    Fault(
        "a leave-one-out mean of all samples of a function",
        replace(logit_gradients, "mean_of_others", lambda true: mean_of_all),
        lambda: test_values_only.test_unbiased_for_a_table("loo", 2),
    ),
    Fault(
        "the value of one member of a pair",
        replace(scores, "_pair", lambda true: lambda *a: (*(p := true(*a))[:3], p[1])),
        lambda: test_use.test_the_value_is_the_mean_over_all_hard_samples("disarm"),
    ),
    Fault(
        "a node of RK2 on the other side",
        replace(kernels, "reinmax_rk2", _other_node),
        test_kernels.test_special_cases_of_the_node,
    ),
    Fault(
        "ReinMax of the first order",
        replace(kernels, "reinmax", lambda true: kernels.straight_through),
        test_kernels.test_exact_for_quadratic_f,
    ),
    Fault(
        "Gumbel-Rao whose noise does not lead to the sample",
        replace(categorical, "conditional_weights", lambda true: _free_noise),
        lambda: test_kernels.test_rao_has_the_mean_of_straight_through_gumbel(1),
    ),
    Fault(
        "Gumbel-Rao with one noise in all draws",
        replace(kernels, "gumbel_rao", _one_noise),
        test_kernels.test_variance_of_rao,
    ),
]
