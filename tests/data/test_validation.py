"""Images are validated where they enter: range, shape, dtype and kind."""

import numpy as np
import pytest

import rebar
from rebar import registry
from rebar.data.datasets import Dataset
from rebar.errors import RebarError
from rebar.factory import make_learner
from rebar.hparams import HParams, Settings
from rebar.training.run import Run

BINARY = np.random.default_rng(0).integers(0, 2, [12, 6]).astype(np.uint8)
GRAY = np.random.default_rng(0).uniform(size=[12, 6]).astype(np.float32)

INVALID = {
    "to 255.*divide by 255": BINARY * 255.0,
    r"from -1 to 1.*\(images \+ 1\) / 2": BINARY * 2.0 - 1,
    "from -3 to 1": np.where(BINARY, 1, -3),
    "not finite": np.where(BINARY, 1, np.nan),
    "dtype <U": BINARY.astype(str),
    "dtype complex": BINARY.astype(complex),
    "dtype object": np.array([[None] * 6]),
    r"shape \[12, 3, 2\].*reshape": BINARY.reshape(12, 3, 2),
    r"shape \[72\]": BINARY.ravel(),
    r"shape \[18, 4\].*\[n, 6\]": BINARY.reshape(18, 4),
}


def dataset(train=BINARY, valid=BINARY, test=BINARY, mean=None, **options):
    mean = np.full(6, 0.5, np.float32) if mean is None else mean
    return Dataset("mine", train, valid, test, mean, (2, 3), "my images", **options)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("message", INVALID)
def test_a_data_set_is_validated(split, message):
    with pytest.raises(RebarError, match=f"{split} has.*{message}"):
        dataset(**{split: INVALID[message]})


@pytest.mark.parametrize("message", INVALID)
def test_partial_fit_is_validated(message):
    sbn = rebar.SBNDisARM("n_hidden=3", np.full(6, 0.5))
    for method in (sbn.partial_fit, sbn.partial_eval, sbn.partial_grad):
        with pytest.raises(RebarError, match=message):
            method(INVALID[message])


@pytest.mark.parametrize("mean", [np.full(6, 128), np.full(6, -0.1), np.full(6, np.nan)])
def test_means_are_validated(mean):
    with pytest.raises(RebarError, match=r"in \[0, 1\]|not finite"):
        rebar.SBNDisARM("n_hidden=3", mean)
    with pytest.raises(RebarError, match=r"in \[0, 1\]|not finite"):
        dataset(mean=mean)


def test_an_empty_training_set_and_a_mean_of_another_size():
    with pytest.raises(RebarError, match="no training images"):
        dataset(BINARY[:0])
    with pytest.raises(RebarError, match=r"mean has shape \[5\]"):
        dataset(mean=np.full(5, 0.5))
    assert len(dataset(valid=BINARY[:0]).valid) == 0


@pytest.mark.parametrize(
    ("model", "options", "valid"),
    [
        ("SBNDisARM", {"train": GRAY}, False),
        ("SBNDisARM", {"test": GRAY}, False),
        ("SBNDisARM", {"train": GRAY, "dynamic": True}, True),
        ("SBNDisARM", {"train": BINARY.astype(bool)}, True),
        ("CatReinMax", {"train": GRAY, "valid": GRAY, "test": GRAY}, True),
    ],
)
def test_the_kind_of_images_fits_the_model(tmp_path, model, options, valid):
    hparams = HParams.parse(f"model={model}")
    estimator = registry.make_estimator(hparams.model, hparams)
    learner = make_learner(hparams, estimator, np.full(6, 0.5), False)

    def run():
        return Run(learner, dataset(**options), tmp_path, hparams, Settings())

    if valid:
        run()
    else:
        with pytest.raises(RebarError, match=r"grayscale.*must be binary for SigmoidBelief"):
            run()
