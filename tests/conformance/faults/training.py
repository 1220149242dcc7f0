"""Updates, running moments, minibatches, noise of steps, and evaluations."""

import pytest
import tensorflow as tf

from rebar import noise, registry
from rebar.core import bounds
from rebar.estimators.tracked import Tracked
from rebar.training import blocks, evaluate, learner, moments, optimizers
from rebar.training.blocks import Blocks
from rebar.training.learner import Learner
from rebar.training.moments import Moments
from rebar.training.optimizers import FusedAdam, FusedRAdam, FusedSGD
from tests.conformance import test_exact, test_updates
from tests.conformance.faults.planting import Fault, Float64, fails, module_with, replace
from tests.training import test_blocks, test_evaluate, test_moments, test_optimizers


def noise_with(**functions):
    """Make a noise module in which some functions are replaced by `make` of the true ones."""
    changes = {name: make(getattr(noise, name)) for name, make in functions.items()}
    return lambda true: module_with(true, **changes)


def _of_first_step(true):
    def inputs(self, data, index, uniforms, pixels, position):
        x, _ = true(self, data, index, uniforms, pixels, position)
        return x, true(self, data, index, uniforms, pixels, 0 * position)[1]

    return inputs


def _of_gray_pixels(true):
    def inputs(self, *arguments):
        self._dynamic, dynamic = False, self._dynamic
        result = true(self, *arguments)
        self._dynamic = dynamic
        return result

    return inputs


def _short_blocks(make):
    """Plant in `Blocks` with blocks of three steps."""

    def plant(patch):
        patch.setattr(noise, "MAX_BLOCK_STEPS", 3)
        make(patch)

    return plant


def _without_last(true):
    def init(self, *arguments, **keywords):
        true(self, *arguments, **keywords)
        self.steps_per_epoch, self._last_batch = self._full, 0

    return init


def _fixed_epoch(stream):
    """Make keys of a stream that are those of the first epoch."""

    def make(true):
        def key(seed, name, *position):
            return true(seed, name, *((0, *position[1:]) if name == stream else position))

        return key

    return make


def _of_training(true):
    def key(seed, name, *position):
        return true(seed, "latents", 0, 0, position[-1])

    return key


def _previous_control_gradients(true):
    def apply(self, estimate, finite):
        before = getattr(self, "_before", estimate.control_gradients)
        self._before = estimate.control_gradients
        true(self, estimate._replace(control_gradients=before), finite)

    return apply


def _without_control(true):
    def apply(self, estimate, finite):
        zeros = [tf.zeros_like(g) for g in estimate.control_gradients]
        true(self, estimate._replace(control_gradients=zeros), finite)

    return apply


def _rate_of_others(true):
    def of_parts(kinds, parts):
        rates = {
            name: (kind, kinds.get("control_optimizer", (kind, rate))[1], beta2)
            for name, (kind, rate, beta2) in kinds.items()
        }
        return true(rates, parts)

    return of_parts


def _rates_of_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
        Float64(test_updates).test_each_learned_part_has_its_rate_and_decay("Parts", registry)


def _first_label(true):
    def estimate(self, model, x, noise):
        result = true(self, model, x, noise)
        return result._replace(gradients=result.tracked[self.labels[0]])

    return estimate


def _seen_images_only(true):
    def call(self, images, n_samples=100, stream=0):
        return true(self, images[: len(images) // 2], n_samples, stream)

    return call


def _first_chunk(true):
    def batch(self, x, n_samples, chunk, position, compiled):
        return true(self, x, chunk, chunk, position, compiled)

    return batch


def _fewer_by_one(true):
    return lambda f: true(f) + tf.cast(tf.math.log(f.shape[0] / (f.shape[0] - 1)), f.dtype)


def _small_passes(make):
    """Plant with passes of at most 4 samples and 12 rows."""

    def plant(patch):
        patch.setattr(evaluate, "CHUNK", 4)
        patch.setattr(evaluate, "ROWS", 12)
        make(patch)

    return plant


TWO_STEPS = test_optimizers.test_two_steps_by_hand


def _epoch():
    test_blocks.test_an_epoch_visits_every_image_once_in_an_order_of_its_own()


def _noise_of_steps():
    test_blocks.test_noise_differs_between_steps_layers_seeds_and_trials(None)


def _bound_by_numpy():
    test_evaluate.test_bound_and_elbo_equal_numpy_on_the_same_noise(None, 1, 10)


TRAINING = [
    Fault(
        "control variates with the rate of the model",
        replace(learner, "CONTROL_RATE", lambda true: 1),
        test_optimizers.test_control_variates_learn_ten_times_as_fast,
    ),
    Fault(
        "a learned part with the rate of the others",
        replace(optimizers, "_of_parts", _rate_of_others),
        _rates_of_parts,
    ),
    Fault("a stale baseline", replace(Learner, "_apply", _previous_control_gradients), TWO_STEPS),
    Fault("control variates that stay", replace(Learner, "_apply", _without_control), TWO_STEPS),
    Fault(
        "a decoder with the rate of the encoder",
        replace(
            optimizers,
            "for_model",
            lambda true: (
                lambda model, variables, rate, beta2, rates: true(
                    model, variables, rate, beta2, optimizers.Rates(0, rates.prior, "sgd")
                )
            ),
        ),
        TWO_STEPS,
    ),
    Fault(
        "Adam without the correction of its first steps",
        replace(
            tf.raw_ops,
            "ResourceApplyAdam",
            lambda true: lambda **arguments: true(**arguments | {"beta2_power": 0.0}),
        ),
        TWO_STEPS,
    ),
    Fault(
        "RAdam that is never rectified",
        replace(FusedRAdam, "update_step", lambda true: FusedAdam.update_step),
        lambda: test_optimizers.test_radam_is_rectified_from_the_sixth_step_on(0.9, False),
    ),
    Fault(
        "an update by what is not finite",
        replace(
            FusedSGD,
            "apply_after",
            lambda true: lambda self, finite, *arguments: true(self, True, *arguments),
        ),
        lambda: test_optimizers.test_gradient_descent_stands_still_where_a_number_is_not_finite(
            False
        ),
    ),
    Fault(
        "the decay of another moving average",
        replace(moments, "DECAY", lambda true: 0.99),
        lambda: test_moments.test_a_single_gradient(test_moments.make_variables()),
    ),
    Fault(
        "the first moment of a method instead of the average",
        replace(
            Moments,
            "__init__",
            lambda true: (
                lambda self, variables, labels=(), averaged=(), *more: true(
                    self, variables, labels, averaged[:1], *more
                )
            ),
        ),
        lambda: test_moments.test_several_methods_share_the_average_of_the_unbiased_ones(
            test_moments.make_variables(), ("A", "B")
        ),
    ),
    Fault(
        "a tracker that follows the first of its estimators",
        replace(Tracked, "estimate", _first_label),
        fails("SBNTrackGradVariances", "unbiased: unconditional, 1 layer", "biased at"),
    ),
    Fault(
        "noise that the steps of a block share",
        _short_blocks(replace(Blocks, "_inputs", _of_first_step)),
        _noise_of_steps,
    ),
    Fault(
        "noise that epochs share",
        _short_blocks(replace(blocks, "noise", noise_with(key=_fixed_epoch("latents")))),
        _noise_of_steps,
    ),
    Fault(
        "noise that training and evaluations share",
        replace(evaluate, "noise", noise_with(key=_of_training)),
        test_evaluate.test_no_noise_is_that_of_training,
    ),
    Fault(
        "a permutation that is equal in all epochs",
        replace(
            blocks,
            "noise",
            noise_with(permutation=lambda true: lambda seed, epoch, n: true(seed, 0, n)),
        ),
        _epoch,
    ),
    Fault("a last minibatch that is dropped", replace(Blocks, "__init__", _without_last), _epoch),
    Fault(
        "gray pixels instead of binary ones",
        replace(Blocks, "_inputs", _of_gray_pixels),
        test_blocks.test_dynamic_binarization_draws_anew_each_time,
    ),
    Fault(
        "one binarization in all epochs",
        replace(blocks, "noise", noise_with(key=_fixed_epoch("binarize"))),
        test_blocks.test_dynamic_binarization_draws_anew_each_time,
    ),
    Fault(
        "a bound of half the images",
        _small_passes(replace(evaluate.Evaluator, "__call__", _seen_images_only)),
        _bound_by_numpy,
    ),
    Fault(
        "a bound of the first chunk of samples",
        _small_passes(replace(evaluate.Evaluator, "_batch", _first_chunk)),
        _bound_by_numpy,
    ),
    Fault(
        "K - 1 instead of K in the bound",
        replace(bounds, "multi_sample", _fewer_by_one),
        lambda: Float64(test_exact).test_the_bound_equals_numpy("unconditional"),
    ),
]
