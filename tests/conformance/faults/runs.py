"""Numbers that a run reports."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

from rebar.models.categorical_vae import CategoricalVAE
from rebar.training.blocks import Blocks
from rebar.training.report import Report
from tests.conformance import recorded_run, test_reported_numbers
from tests.conformance.faults.planting import Fault, replace
from tests.conformance.faults.settings import As


def _validated_twice(true):
    def bounds(self, *arguments):
        data = self._run.dataset
        run = As(self._run, dataset=As(data, test=data.valid))
        return true(As(self, _run=run), *arguments)

    return bounds


def _without_weights(true):
    def rollout(self, *arguments, **options):
        return true(self, *arguments, **options)._replace(log_weight=None)

    return rollout


def _first_trial(true):
    def init(self, learner, train, batch_size, n_samples, seed, *arguments):
        true(self, learner, train, batch_size, n_samples, (*seed[:1], 1), *arguments)

    return init


def trials_of_runs():
    """Runs of two trials see the same images and noise."""
    with tempfile.TemporaryDirectory() as folder:

        def run_of(case, *arguments):
            case = case.replace("track", "model=SBNNVIL,dynamic_b=true,n_layer=2,trial=3")
            return recorded_run.train(Path(folder), case, *(arguments or (7, 1, 0, 0)))

        test_reported_numbers.test_the_seed_and_the_trial_change_everything(run_of)


def evaluated(case: str):
    """Bounds of a tiny run are not those of its image sets."""

    def seen():
        with tempfile.TemporaryDirectory() as folder:
            run = recorded_run.train(Path(folder), case, 7, recorded_run.EPOCHS, 1, 0)
            replay = SimpleNamespace(run=run, copy=recorded_run.Copy(run))
            test_reported_numbers.test_bounds_of_the_validation_and_test_images(
                case, lambda case: replay
            )

    return seen


RUNS = [
    Fault("a trial that is ignored", replace(Blocks, "__init__", _first_trial), trials_of_runs),
    Fault(
        "a test bound of the validation images",
        replace(Report, "_evaluation", _validated_twice),
        evaluated("pairs"),
    ),
    Fault(
        "a bound of the categorical VAE from f instead of the weights",
        replace(CategoricalVAE, "rollout", _without_weights),
        evaluated("categorical"),
    ),
]
