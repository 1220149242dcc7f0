"""Estimators by name: what `model=...` in an --hparams string can say.

One line a name. Targets are "module:Class" strings, resolved on first use, so that listing the
names (help texts, error messages) does not import TensorFlow.
"""

import dataclasses
import importlib
import math
import re
from collections.abc import Callable
from typing import Any

from rebar.errors import RebarError, did_you_mean

_TYPED = re.compile(r"[A-Za-z0-9_.+-]+")
"""What a name can be made of."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a name stands for.

    Attributes:
      target: "module:Class" of an `Estimator`, or a callable that takes an HParams and returns
        an estimator.
      label: the name in `track=[...]`, `follow=...`, logs and figures.
      min_rows: the fewest rows (batch_size * n_samples) that the estimator works with.
      min_samples: the fewest samples of an example (n_samples) that it works with.
      samples: n_samples must be a multiple of this.
      multi_sample: whether it follows the multi-sample bound if hparams say multi_sample=true.
      latents: of the models that it is for: "binary" or "categorical".
      tracks: whether it runs those named in `track` side by side.
    """

    target: str | Callable[[Any], Any]
    label: str
    min_rows: int = 1
    min_samples: int = 1
    samples: int = 1
    multi_sample: bool = False
    latents: str = "binary"
    tracks: bool = False

    def n_samples(self, least: int) -> int:
        """The smallest number of samples of an example, `least` or more, that it works with."""
        return self.samples * math.ceil(max(least, self.min_samples) / self.samples)


def _categorical(target: str, label: str, **limits: Any) -> Entry:
    """An estimator for models with categorical latents."""
    return Entry(f"rebar.estimators.{target}", label, latents="categorical", **limits)


_ENTRIES: dict[str, Entry] = {
    "SBN": Entry(
        "rebar.estimators.reinforce:Reinforce", "REINFORCE", min_rows=2, multi_sample=True
    ),
    "SBNNVIL": Entry("rebar.estimators.nvil:NVIL", "NVIL", multi_sample=True),
    "SBNSimpleMuProp": Entry("rebar.estimators.muprop:SimpleMuProp", "SimpleMuProp"),
    "SBNMuProp": Entry("rebar.estimators.muprop:MuProp", "MuProp"),
    "SBNRebar": Entry("rebar.estimators.rebar:REBAR", "REBAR"),
    "SBNDynamicRebar": Entry("rebar.estimators.rebar:DynamicREBAR", "DynamicREBAR"),
    "SBNGumbel": Entry("rebar.estimators.gumbel:GumbelSoftmax", "Gumbel"),
    "SBNReinforceLOO": Entry("rebar.estimators.leave_one_out:LeaveOneOut", "LOO", min_samples=2),
    "SBNARM": Entry("rebar.estimators.antithetic:ARM", "ARM"),
    "SBNDisARM": Entry("rebar.estimators.antithetic:DisARM", "DisARM"),
    "SBNRelax": Entry("rebar.estimators.relax:RELAX", "RELAX"),
    "SBNVIMCO": Entry("rebar.estimators.vimco:VIMCO", "VIMCO", min_samples=2, multi_sample=True),
    "SBNLocalDisARM": Entry(
        "rebar.estimators.local_disarm:LocalDisARM", "LocalDisARM", samples=2, multi_sample=True
    ),
    "SBNTrackGradVariances": Entry("rebar.estimators.tracked:Tracked", "Track", tracks=True),
    "CatST": _categorical("straight_through:StraightThrough", "ST"),
    "CatGumbelST": _categorical("straight_through:StraightThroughGumbel", "ST-GS"),
    "CatGumbelRao": _categorical("gumbel_rao:GumbelRao", "GumbelRao"),
    "CatGST": _categorical("straight_through:GappedStraightThrough", "GST"),
    "CatReinMax": _categorical("reinmax:ReinMax", "ReinMax"),
    "CatReinMaxRao": _categorical("reinmax:ReinMaxRao", "ReinMaxRao"),
    "CatReinMaxCV": _categorical("reinmax:ReinMaxCV", "ReinMaxCV"),
    "CatReinMaxRK2": _categorical("reinmax:ReinMaxRK2", "ReinMaxRK2"),
    "CatReinforce": _categorical("reinforce:Reinforce", "REINFORCE", min_rows=2),
    "CatLOO": _categorical("leave_one_out:LeaveOneOut", "LOO", min_samples=2),
    "CatExact": _categorical("enumerated:Enumerated", "Exact"),
    "CatTrackGradVariances": _categorical("tracked:Tracked", "Track", tracks=True),
}


LATENTS = ("binary", "categorical")


def names(*latents: str) -> list[str]:
    """Names that `model=` accepts, in order of registration; of models with such latents."""
    return [name for name, e in _ENTRIES.items() if e.latents in (latents or LATENTS)]


def labels(latents: str) -> dict[str, str]:
    """Label -> model name of every estimator that can be tracked, of models with such latents."""
    return {e.label: n for n, e in _ENTRIES.items() if e.latents == latents and not e.tracks}


def all_labels() -> list[str]:
    """Labels of every estimator that can be tracked, each once."""
    return list(dict.fromkeys(label for latents in LATENTS for label in labels(latents)))


def entry(name: str) -> Entry:
    """The entry behind a model name. Raises RebarError for an unknown one."""
    try:
        return _ENTRIES[name]
    except KeyError:
        raise RebarError(
            f"unknown model {name!r}; known: {', '.join(_ENTRIES)}; register a custom one with "
            f"rebar.register() (docs/add_an_estimator.md){did_you_mean(name, _ENTRIES)}"
        ) from None


def register(
    name: str,
    target: str | Callable[[Any], Any],
    label: str | None = None,
    min_rows: int = 1,
    min_samples: int = 1,
    samples: int = 1,
    multi_sample: bool = False,
    latents: str = "binary",
) -> None:
    """Make an estimator known as `model=name`.

    Args:
      name: what users type after `model=`.
      target: an `Estimator` subclass, a "module:Class" string, or a callable HParams -> Estimator.
      label: its name in `track=[...]` and in logs; `name` if not given.
      min_rows, min_samples, samples, multi_sample, latents: see `Entry`.

    Raises:
      RebarError: the name or the label is taken or cannot be typed in --hparams, `target` is
        nothing that can be called, or `latents` is not one of LATENTS.
    """
    label = label or name
    for text in (name, label):
        if not isinstance(text, str) or not _TYPED.fullmatch(text):
            raise RebarError(
                f"cannot register {text!r}: the name and the label of an estimator are typed in "
                "--hparams, so letters, digits and _ - . + are allowed in them"
            )
    if not callable(target) and not (isinstance(target, str) and ":" in target):
        raise RebarError(
            f"cannot register {name}: its target must be an Estimator class, a function of HParams "
            f'or a string "module:Class", given: {target!r}'
        )
    if latents not in LATENTS:
        raise RebarError(f"latents={latents!r}: choose from {', '.join(LATENTS)}")
    if name in _ENTRIES or label in labels(latents):
        raise RebarError(f"model {name!r} (label {label!r}) is registered already; choose another")
    _ENTRIES[name] = Entry(target, label, min_rows, min_samples, samples, multi_sample, latents)


def make_estimator(name: str, hparams: Any) -> Any:
    """Build the estimator behind `name`, with its settings taken from `hparams`."""
    target = entry(name).target
    if isinstance(target, str):
        module, _, attribute = target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
    return target.from_hparams(hparams) if hasattr(target, "from_hparams") else target(hparams)
