"""Mutation score: planted faults and random small mutations that no property test may miss.

    python -m tests.conformance.mutation --count=40 --seed=0

runs the catalog of faults, then changes one expression of rebar/core or rebar/estimators at a time
in a copy of the package. The property tests of the changed file and the checks of `rebar.testing`
for the estimators that depend on it, without recorded numbers, must fail. Prints the fraction that
was noticed, and one line for each mutation that was not: equivalent, or a missing property.
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.mutants import ROOT, Mutation, choose

FORK = multiprocessing.get_context("fork")
TEST_SECONDS = 300
"""Limit of the tests of a file."""

RECORDED = ("golden", "published", "disarm_code")
"""Words in the names of tests that compare with recorded numbers."""

FORMULAS = (
    f"{ROOT}/tests/conformance/test_settings.py::"
    "test_each_setting_has_the_stated_effect_and_no_other[{}]"
)
"""Test of a model against its formulas."""

ORDER = ("structure", "evaluations", "rows", "control gradients", "generator", "saturated logits")
"""Kinds of checks that are quick, in order; the others follow."""

RELAXED, BOUND = ("SBNDynamicRebar", "SBNRelax"), ("SBNNVIL", "SBNVIMCO", "SBNLocalDisARM")
CATEGORICAL = ("CatST", "CatGumbelRao", "CatReinMax")
RELEVANT: dict[str, tuple[tuple, tuple]] = {
    "core/bernoulli": (("functional/test_relaxed",), ("SBNDisARM", "SBNRelax")),
    "core/bound_gradients": (("conformance/test_multi_sample",), BOUND),
    "core/bounds": (("core/test_gradients", "conformance/test_exact"), BOUND),
    "core/categorical": (("core/test_straight_through",), ("CatLOO", "CatGumbelRao")),
    "core/enumeration": (("conformance/test_exact", "conformance/test_categorical"), ("CatLOO",)),
    "core/gradients": ((), ("SBNMuProp", "SBNDisARM", "SBNRelax")),
    "core/initializers": (("models/test_networks",), ()),
    "core/logit_gradients": ((), ("SBNDisARM", "SBNVIMCO")),
    "core/samplers": (("core/test_gradients",), ("SBNDisARM", "SBNDynamicRebar")),
    "core/straight_through": (("conformance/test_functions",), CATEGORICAL),
    "core/validity": (("functional/test_run_time_values", "test_invalid_values"), ()),
    "estimators/base": (("estimators/test_mistakes",), ("SBNNVIL", "SBNMuProp")),
    "estimators/literal_rebar": (("conformance/test_literal_rebar",), ()),
    "estimators/literal_relax": (("conformance/test_literal_relax",), ()),
    "estimators/local_disarm": (("conformance/test_multi_sample",), ()),
    "estimators/logit_products": (("conformance/test_literal_rebar",), RELAXED),
    "estimators/multi_sample": (("conformance/test_multi_sample",), BOUND),
    "estimators/rebar": (("conformance/test_literal_rebar", "estimators/test_tracked"), ()),
    "estimators/relax": (("conformance/test_literal_relax",), ()),
    "estimators/relaxed_terms": (("conformance/test_literal_rebar",), RELAXED),
    "estimators/straight_through": (("estimators/test_compiled",), ()),
    "estimators/vimco": (("conformance/test_multi_sample",), ()),
}
"""File -> tests besides those of the same name, and models besides those it defines."""


def check(module: str, seconds: float) -> None:
    """Run what must notice a mutation of a module, e.g. "core/bounds"; SystemExit if it does."""
    import pytest

    from rebar import registry, testing

    tests, models = RELEVANT.get(module, ((), ()))
    files = [ROOT / f"tests/{name}.py" for name in dict.fromkeys((f"{module}", *tests))]
    files[0] = files[0].with_name(f"test_{files[0].name}")
    present = [str(file) for file in files if file.exists()]
    target = f"rebar.{module.replace('/', '.')}:"
    own = [n for n in registry.names() if str(registry.entry(n).target).startswith(target)]
    names = [*own, *models]
    present += [FORMULAS.format(name) for name in names if not registry.entry(name).tracks]
    words = " and ".join(f"not {word}" for word in RECORDED)
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-k", words]
    if present and pytest.main([*options, *present]) not in (0, 5):
        sys.exit(1)
    rank = {kind: i for i, kind in enumerate(ORDER)}
    planned = []
    for name in names:
        # The first check of each kind, then the second ones.
        seen: dict[str, int] = {}
        for one in testing.plan(testing.subject(name)):
            seen[one.kind] = seen.get(one.kind, 0) + 1
            planned.append((seen[one.kind], rank.get(one.kind, len(rank)), len(planned), one))
    start = time.monotonic()
    for *_, one in sorted(planned):
        result = testing.run(one)
        if not result.passed:
            sys.exit(f"{result.check}: {result.detail}")
        if time.monotonic() - start > seconds:
            return


def missed_faults() -> Iterator[str]:
    """Names of the faults of the catalog that nothing sees."""
    import pytest

    from tests.conformance.faults import FAULTS

    for fault in FAULTS:
        with pytest.MonkeyPatch.context() as patch:
            if fault.plant is not None:
                fault.plant(patch)
            try:
                fault.seen()
            except AssertionError:
                continue
            yield fault.name


def killed(mutation: Mutation, seconds: float) -> str:
    """Return what noticed a mutation: "checks", "time"; empty if nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("rebar", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, Path(folder, name), ignore=ignored)
        file = Path(folder, mutation.file.relative_to(ROOT))
        text = file.read_bytes()
        file.write_bytes(text[: mutation.start] + mutation.new.encode() + text[mutation.end :])
        module = mutation.file.relative_to(ROOT / "rebar").with_suffix("").as_posix()
        process = FORK.Process(target=check_copy, args=(folder, module, seconds))
        process.start()
        process.join(TEST_SECONDS + 2 * seconds)
        if process.is_alive():
            process.kill()
            return "time"
        return "checks" if process.exitcode else ""


def check_copy(folder: str, module: str, seconds: float) -> None:
    """Check a module of the copy in a folder, in a new process, silently."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = folder
    sys.path.insert(0, folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("rebar", "tests")]:
        del sys.modules[name]
    importlib.import_module("tests.conformance.mutation").check(module, seconds)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="number of mutations")
    parser.add_argument("--seed", type=int, default=0, help="seed of their choice")
    parser.add_argument("--only", default="", help="part of the name of the files to change")
    parser.add_argument("--seconds", type=float, default=300, help="limit of the checks of each")
    arguments = parser.parse_args()
    # Once for all processes; nothing may run before they part.
    for name in ("tensorflow", "keras", "pytest", "scipy.stats"):
        importlib.import_module(name)
    chosen = choose(arguments.count, arguments.seed, arguments.only)
    survivors = []
    for number, mutation in enumerate(chosen, 1):
        start = time.monotonic()
        by = killed(mutation, arguments.seconds)
        survivors += [] if by else [mutation]
        taken = f"{by or 'SURVIVED'} {time.monotonic() - start:.0f} s"
        print(f"{number}/{len(chosen)} {taken} {mutation}", flush=True)
    noticed = len(chosen) - len(survivors)
    print(f"{noticed} of {len(chosen)} mutations noticed")
    print(*survivors, sep="\n")
    missed = [] if arguments.only else list(missed_faults())
    print(f"faults of the catalog that are missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
