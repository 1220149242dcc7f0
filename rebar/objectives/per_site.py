"""Different estimators for the sites of one objective."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from rebar.core import gradients, samplers
from rebar.errors import RebarError
from rebar.estimators.base import Estimator
from rebar.noise import Noise
from rebar.objectives.model import ObjectiveModel
from rebar.types import Estimate, Rollout, Sampler


class PerSite(Estimator):
    """One estimator for each site, `estimator={"b": "DisARM", "c": "LOO"}`.

    The gradient with respect to a site's logits is that of its estimator, with hard samples at all
    other sites. Every estimator computes the terms of each site separately, so that this is
    unbiased if all of them are. Sites of an estimator with surrogate or relaxed samples
    (`Estimator.through`, e.g. ReinMax and Gumbel) have such samples for all others, too.

    Args:
      members: site -> estimator; one instance may serve several sites.

    Raises:
      RebarError: the members follow different objectives.
    """

    def __init__(self, members: Mapping[str, Estimator], **kwargs):
        super().__init__(**kwargs)
        self.sites = dict(members)
        self.distinct = list({id(member): member for member in members.values()}.values())
        self.scoring = [member for member in self.distinct if not member.through]
        self.unbiased = all(member.unbiased for member in self.distinct)
        self.relaxes = any(member.relaxes for member in self.scoring)
        follows = {(member.objective, member.samples_per_chain) for member in self.scoring}
        if len(follows) > 1:
            raise RebarError(
                "estimator: those of the sites follow different objectives, the mean of f and a "
                "multi-sample bound; use estimators of one of them"
            )
        if follows:
            ((self.objective, self.samples_per_chain),) = follows

    def estimate(self, model: ObjectiveModel, x: tuple, noise: Noise) -> Estimate:
        if not self.scoring:
            rollout = model.rollout(x, samplers.hard(noise), noise.n_samples)
            return Estimate(
                [gradients.loss_of(-tf.reduce_mean(rollout.objective))], [], rollout.objective, {}
            )
        losses, control, metrics = [], [], {}
        shared: list[Rollout] = []
        for member in self.scoring:
            sites = [site for site, m in self.sites.items() if m is member]
            part = _Part(model, sites, shared if self.objective == "elbo" else None, not losses)
            estimate = member.estimate(part, x, noise)
            losses += estimate.gradients
            control += zip(member.trainable_variables, estimate.control_gradients, strict=True)
            metrics |= {f"{name}/{sites[0]}": v for name, v in estimate.metrics.items()}
        # Estimates of all members are at the same hard samples.
        return Estimate([tf.add_n(losses)], self.aligned(*control), estimate.objective, metrics)


class _Part:
    """A model in which some layers have gradients.

    Args:
      model: see `ObjectiveModel`.
      sites: their sites.
      shared: hard rollouts of all parts, at most one; None: each part has its own.
      follows_f: the gradient of f at fixed samples is part of the estimate.
    """

    def __init__(self, model, sites, shared, follows_f):
        self._model, self._shared, self._follows_f = model, shared, follows_f
        self._sites = set(sites)

    def __getattr__(self, name):
        return getattr(self._model, name)

    @property
    def active_layers(self) -> list[int]:
        """Layers that have gradients."""
        return [i for i, site in enumerate(self._model.sites) if site in self._sites]

    def rollout(
        self, x: tuple, sampler: Sampler, n_samples: int = 1, encoded: Any = None
    ) -> Rollout:
        """Roll out with constant log q and logits of the other layers."""
        return self._constant(self._model.rollout(x, sampler, n_samples))

    def hard_rollout(self, x: tuple, noise: Noise) -> Rollout:
        """Roll out at hard samples, once for all parts."""
        if self._shared is None:
            return self.rollout(x, samplers.hard(noise), noise.n_samples)
        if not self._shared:
            self._shared.append(self._model.rollout(x, samplers.hard(noise), noise.n_samples))
        return self._constant(self._shared[0])

    def _constant(self, rollout):
        def others(values):
            sites = zip(self._model.sites, values, strict=True)
            return tuple(v if site in self._sites else tf.stop_gradient(v) for site, v in sites)

        f = rollout.log_joint
        return rollout._replace(
            log_joint=f if self._follows_f else tf.stop_gradient(f),
            log_q=others(rollout.log_q),
            logits=others(rollout.logits),
        )
