"""Which estimators are analysed, each set up for the model, with the control variates of the run.

Each is compared with the gradient of what it follows. For the multi-sample bound that is known by
enumeration only, so with another reference its estimators are left out.
"""

from typing import NamedTuple

from rebar import registry
from rebar.core.enumeration import MAX_TUPLES
from rebar.errors import RebarError

EXACT = "Exact"


class Chosen(NamedTuple):
    """An estimator to analyse.

    Attributes:
      estimator: set up.
      n_samples: samples of an image that it takes.
      control: what its control variates are: "none", "of the run" or "initial".
    """

    estimator: object
    n_samples: int
    control: str

    @property
    def bound(self) -> int:
        """Samples of the multi-sample bound that it follows; 0: it follows the ELBO."""
        if self.estimator.objective == "elbo":
            return 0
        return self.n_samples // self.estimator.samples_per_chain


def labels(wanted, latents: str) -> list[str]:
    """Labels of the estimators that were named, or of all but the exact one.

    Args:
      wanted: labels or model names; empty: all.
      latents: "binary" or "categorical".

    Raises:
      RebarError: one is unknown, of models with other latents, or tracks others.
    """
    known = registry.labels(latents)
    if not wanted:
        return [label for label in known if label != EXACT]
    by_name = {name: label for label, name in known.items()}
    found = [by_name.get(word, word) for word in wanted]
    wrong = [word for word in found if word not in known]
    if wrong:
        raise RebarError(
            f"--estimators: {', '.join(map(repr, wrong))} cannot be used with a model of {latents} "
            f"latents; choose from {', '.join(known)}"
        )
    return list(dict.fromkeys(found))


def choose(
    wanted, hparams, model, trained=None, seed: int = 0, has_bound=lambda n_samples: True
) -> dict[str, Chosen]:
    """The estimators to analyse.

    Args:
      wanted: see `labels`.
      hparams: settings of those that are not the run's; hparams.model tells the latents.
      model: that they are set up for.
      trained: label -> estimator with the control variates that the run has learned.
      seed: of the initial control variates of the others.
      has_bound: whether there is a reference for the multi-sample bound of n_samples.

    Returns:
      Label -> `Chosen`.

    Raises:
      RebarError: see `labels`; or one that was named follows a bound without a reference.
    """
    latents = hparams.entry.latents
    result = {}
    for label in labels(wanted, latents):
        name = registry.labels(latents)[label]
        estimator = (trained or {}).get(label)
        control = "of the run"
        if estimator is None or not estimator.trainable_variables:
            estimator = registry.make_estimator(name, hparams)
            estimator.setup(model, seed)
            control = "initial" if estimator.trainable_variables else "none"
        n_samples = registry.entry(name).n_samples(hparams.n_samples)
        found = Chosen(estimator, n_samples, control)
        if found.bound and not has_bound(found.bound):
            if not wanted:
                continue
            raise RebarError(
                f"{label} follows the {found.bound}-sample bound, whose exact gradient needs "
                f"--reference=exact and at most {MAX_TUPLES} combinations of {found.bound} states; "
                "use fewer or narrower layers, or leave it out of --estimators"
            )
        result[label] = found
    return result
