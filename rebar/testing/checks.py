"""Selection of checks: properties of an estimator, per problem and settings."""

import functools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from rebar.testing import means, properties
from rebar.testing.comparison import Comparison
from rebar.testing.problems import LARGE, Problem
from rebar.testing.subject import Subject


class Check(NamedTuple):
    """One property, for one problem and one set of constructor arguments.

    Attributes:
      name: the property, the problem and the settings.
      kind: name of the property.
      run: function that returns a detail for the report or a `Comparison`, or raises `Failure`.
      settings: the constructor arguments.
      statistical: random draws decide, so that it can fail by chance.
      variation: differs from another check in the family of the model alone, or compiles further
        settings, or has fewer layers at further settings.
    """

    name: str
    kind: str
    run: Callable[[], str | Comparison | None]
    settings: Mapping[str, Any]
    statistical: bool = False
    variation: bool = False


def plan(subject: Subject, times: float = 1, seed: int = 0) -> list[Check]:
    """Return all checks of an estimator.

    Args:
      subject: the estimator.
      times: factor of the number of draws.
      seed: seed of the draws.
    """
    return [*_exact_checks(subject), *_comparisons(subject, times, seed)]


def _exact_checks(subject) -> Iterator[Check]:
    """Yield the checks that do not depend on statistics."""
    for i, settings in enumerate(subject.settings):
        by_layers = _rotated(subject.problems, i)
        deep = by_layers[min(1, len(by_layers) - 1)]
        families = {p.family: p._replace(n_layer=deep.n_layer) for p in subject.problems}
        checks: list[tuple[str, Callable, list]] = [
            ("structure", properties.structure, by_layers),
            ("evaluations", properties.evaluations, by_layers),
            ("saturated logits", properties.saturated, list(families.values())),
            ("rows", properties.rows, list(families.values())),
            ("compiled", properties.compiled, subject.mixed[i % 2 : i % 2 + 1] or [deep]),
            ("restored", properties.restored, [deep]),
            ("generator", properties.generator, [deep]),
        ]
        if i:
            checks = [c for c in checks if c[0] in ("evaluations", "compiled", "generator")]
            checks += [("rows", properties.rows, [deep])]
        if subject.couples_rows(settings):
            checks = [c for c in checks if c[0] != "rows"]
        if subject.learns(settings):
            problems = [*by_layers, *subject.mixed[i % 2 : i % 2 + 1]]
            checks += [("control gradients", properties.control_gradients, problems)]
        for kind, run, problems in checks:
            for problem in problems:
                name = f"{kind}: {problem}{_named(settings)}"
                variation = (
                    (kind == "compiled" and i > 0)
                    or (kind == "rows" and problem.family != problems[0].family)
                    or (kind == "control gradients" and i > 0 and problem in by_layers[:-1])
                )
                check = partial(run, subject, problem, settings)
                yield Check(name, kind, check, settings, variation=variation)


def _comparisons(subject, times, seed) -> Iterator[Check]:
    """Yield the comparisons of means with enumeration, and of variances.

    Those of one problem follow each other, so that its graph is traced once.
    """

    @functools.lru_cache(maxsize=1)
    def case(problem, i):
        return means.Case(subject, problem, subject.settings[i])

    def check(problem, i, text="", **options):
        name = f"unbiased: {problem}{_named(subject.settings[i])}{text}"
        options |= {"times": times, "seed": seed}
        run = partial(means.unbiased, partial(case, problem, i), **options)
        basic = problem in (*by_layers, deepest, *subject.mixed) or problem.nonlinear
        if i:
            basic = problem in (*learning, by_layers[-1], *subject.mixed)
        return Check(name, "unbiased", run, subject.settings[i], True, not basic)

    deepest = max(subject.problems, key=lambda problem: problem.n_layer)
    for i, settings in enumerate(subject.settings):
        by_layers = _rotated(subject.problems, i)
        learning: list = by_layers[i % 2 : i % 2 + 1] if i else by_layers[:2]
        if not subject.learns(settings):
            learning = []
        mixed = subject.mixed[i % 2 : i % 2 + 1] if i else subject.mixed
        for problem in [*(by_layers if i else subject.problems), *mixed]:
            yield check(problem, i)
            if problem is by_layers[0] and not i:
                yield check(problem, i, ", more samples", more=1)
            if problem is by_layers[0] and subject.couples_rows(settings):
                yield check(problem, i, ", few rows", few_rows=True)
            if problem not in learning:
                continue
            if not i:
                yield check(problem, i, ", initial control variates", control=0.0)
            yield check(problem, i, ", large control variates", control=LARGE)
            yield check(problem, i, ", trained control variates", control=None)
            name = f"efficiency: {problem}{_named(settings)}"
            run = partial(means.efficiency, partial(case, problem, i), seed=seed)
            yield Check(name, "efficiency", run, settings, statistical=True)


def _rotated(problems, start) -> list[Problem]:
    """Return one problem per number of layers, of different families."""
    by_layers: dict[int, list] = {}
    for problem in problems:
        by_layers.setdefault(problem.n_layer, []).append(problem)
    return [p[(start + i) % len(p)] for i, p in enumerate(by_layers.values())]


def _named(settings: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value}" for name, value in settings.items())
