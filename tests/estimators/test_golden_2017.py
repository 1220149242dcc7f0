"""Every estimator of the 2017 code gives its recorded numbers on identical inputs and noise."""

import functools

import numpy as np
import pytest

from rebar.core import bounds, gradients
from rebar.estimators.base import hard_rollout
from tests.estimators.golden_2017 import FILES, METHODS, Golden


def test_the_whole_set_is_here():
    assert len(FILES) == 31
    assert {f.split("_")[0] for f in FILES} == {
        "SBN", "SBNNVIL", "SBNSimpleMuProp", "SBNMuProp", "SBNRebar", "SBNDynamicRebar",
        "SBNGumbel", "SBNTrackGradVariances",
    }  # fmt: skip


def close(ours, golden, relative=1e-4, what=""):
    """Within `relative` of the golden tensor's largest magnitude (floor 1e-3)."""
    ours, golden = np.asarray(ours), np.asarray(golden)
    ours = ours.reshape(golden.shape)
    error = np.max(np.abs(ours - golden)) / max(np.max(np.abs(golden)), 1e-3)
    assert error < relative, f"{what}: {error:.2e} of the largest magnitude"


@functools.cache
def unchanged(stem):
    """A recorded configuration and its learner, which tests do not change."""
    golden = Golden(stem)
    return golden, golden.learner()


@pytest.mark.parametrize("n_samples", [1, 2])
@pytest.mark.parametrize("stem", FILES)
def test_estimate(stem, n_samples):
    golden, learner = unchanged(stem)
    at = f"ns{n_samples}"
    estimate = learner.estimator.estimate(learner.model, golden.x(), golden.noise(n_samples))
    close(
        np.reshape(estimate.objective, [n_samples, -1]).T, golden[f"{at}/logF"], 1e-6, "objective"
    )
    printed = [np.mean(estimate.objective), *estimate.metrics.values()]
    close(printed, golden[f"{at}/lHat"][: len(printed)], 2e-5, "printed values")
    for name, g in zip(golden.model_names(learner), estimate.gradients, strict=True):
        close(g, golden[f"{at}/grad/{name}"], what=name)
    for label, gradient in estimate.tracked.items():
        for name, g in zip(golden.model_names(learner), gradient, strict=True):
            close(g, golden[f"{at}/{METHODS[label]}/grad/{name}"], what=f"{label} {name}")
    for name, g in zip(golden.control_names(learner), estimate.control_gradients, strict=True):
        factor = golden.objective_factor(learner)
        close(g / factor, golden.value(f"{at}/egrad", name), what=f"control {name}")
    if f"{at}/variance_objective" in golden.data:
        objective = gradients.mean_square(estimate.gradients) / golden.objective_factor(learner)
        close(objective, golden[f"{at}/variance_objective"], 1e-5, "variance objective")


@pytest.mark.parametrize("stem", FILES)
def test_three_steps(stem):
    """Variables, Adam's moments, gradient moments and variances after one and three steps."""
    golden = Golden(stem)
    learner = golden.learner()
    rate = golden.hparams.learning_rate
    for n_steps in (1, 2, 3):
        learner.step(golden.x(), golden.noise(1))
        if n_steps == 2:
            continue
        at = f"ns1/after{n_steps}"
        for variables, names, optimizer, scale, factor in (
            (
                learner.model.trainable_variables,
                golden.model_names(learner),
                learner.optimizer,
                rate,
                1,
            ),
            (
                learner.estimator.trainable_variables,
                golden.control_names(learner),
                learner._updates.get("control_optimizer", (None,))[0],
                10 * rate,
                golden.objective_factor(learner),
            ),
        ):
            slots = {v.path: v for v in optimizer.variables} if optimizer else {}
            for v, name in zip(variables, names, strict=True):
                difference = np.abs(v.numpy() - golden.value(at, name))
                assert np.max(difference) < 0.02 * scale * n_steps, name
                path = v.path.replace("/", "_")
                for kind, suffix, relative, power in (
                    ("momentum", "/Adam", 5e-3, 1),
                    ("velocity", "/Adam_1", 5e-3, 2),
                ):
                    slot = next(s for p, s in slots.items() if p.endswith(f"/{path}_{kind}"))
                    recorded = golden.value(at, name, suffix)
                    error = np.max(np.abs(slot.numpy() / factor**power - recorded))
                    # Rounding differences of the first steps grow in the later ones.
                    allowed = relative * (1 if n_steps == 1 else 6) * np.max(np.abs(recorded))
                    assert error <= allowed + 1e-12, f"{kind} {name} after {n_steps}"
        variances, _ = learner.moments.values()
        order = learner.labels or [""]
        for label in order:
            prefix = f"{at}/ema/{METHODS[label]}" if label else f"{at}/ema"
            first = np.concatenate([np.ravel(v.numpy()) for v in learner.moments.first(label)])
            second = np.mean(golden[f"{prefix}/second_moment"])
            close(first, golden[f"{prefix}/first_moment"], 5e-3 * n_steps, f"first moment {label}")
            close(learner.moments.second[label], second, 2e-3 * n_steps, f"second moment {label}")
        close(
            [variances[k] for k in order],
            np.atleast_1d(golden[f"ns1/after{n_steps}_grad_variance"]),
            2e-3,
            "variance",
        )
    assert learner.steps == 3


HUNDRED_SAMPLES = [stem for stem in FILES if stem.startswith(("SBN_", "SBNDynamicRebar_"))]


@pytest.mark.parametrize(
    ("stem", "samples"), [*((s, 8) for s in FILES), *((s, 100) for s in HUNDRED_SAMPLES)]
)
def test_multi_sample_bound(stem, samples):
    golden, learner = unchanged(stem)
    noise = golden.noise(samples, f"in/iwae{samples}")
    hard = hard_rollout(learner.model, golden.x(), noise)
    f = bounds.split_samples(hard.objective, samples)
    close(np.transpose(f), golden[f"iwae{samples}/logF"], 1e-6, "objective")
    bound = np.mean(bounds.multi_sample(f))
    close(bound, golden[f"iwae{samples}/partial_eval"][0], 1e-6, "bound")


def test_a_planted_fault_is_caught():
    """The comparison distinguishes the unbiased coupling from that of 2017."""
    golden = Golden("SBNRebar_sbn_L2_lin_quad_mr")
    learner = golden.learner(coupling="switch")
    estimate = learner.estimator.estimate(learner.model, golden.x(), golden.noise(1))
    index = golden.model_names(learner).index("q_1/weights")
    with pytest.raises(AssertionError, match="q_1"):
        close(estimate.gradients[index], golden["ns1/grad/q_1/weights"], what="q_1")
