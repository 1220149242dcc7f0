"""Models, training and estimators depend on each other through `rebar.types` only."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rebar
from rebar import registry

ROOT = Path(rebar.__file__).parent
MODELS = ("SigmoidBeliefNetwork", "ConditionalSBN", "SingleLayerConditional")


def estimator_names():
    """Names for users, labels and class names of all registered estimators."""
    names = set()
    for name in registry.names("binary"):
        entry = registry.entry(name)
        names |= {name, entry.label, entry.target.split(":")[1]}
    return names - {"Track"}


def files(folder):
    modules = sorted((ROOT / folder).glob("*.py"))
    assert modules
    return modules


def imported(path):
    """Modules that a file imports, "package.module" or "package.module.name"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def mentions(path, names):
    """The names that occur in the code of a file; docstrings and comments may give examples."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not is_text(n)] or [ast.Pass()]
    code = ast.unparse(tree)
    return [n for n in sorted(names) if re.search(rf"\b{re.escape(n)}\b", code)]


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("folder", ["models", "training", "core"])
def test_no_estimator_is_named(folder):
    for path in files(folder):
        assert mentions(path, estimator_names()) == [], path.name
        modules = {m for m in imported(path) if m.startswith("rebar.estimators")}
        modules -= {
            m for m in modules if folder == "training" and m.startswith("rebar.estimators.base.")
        }
        assert modules == set(), path.name


def test_no_model_is_named_by_estimators():
    for path in files("estimators"):
        assert mentions(path, MODELS) == [], path.name
        modules = {m for m in imported(path) if m.startswith("rebar.models")}
        assert modules == set(), path.name


def test_nothing_imports_what_lies_further_out():
    outer = ("rebar.cli", "rebar.factory", "rebar.hparams", "rebar.data", "rebar.training")
    for folder in ("core", "models", "estimators"):
        for path in files(folder):
            assert [m for m in imported(path) if m.startswith(outer)] == [], path.name


def test_the_search_finds_what_it_looks_for():
    assert mentions(ROOT / "estimators" / "nvil.py", estimator_names()) == ["NVIL"]
    assert mentions(ROOT / "registry" / "builtin.py", estimator_names()) == sorted(
        estimator_names()
    )
    assert mentions(ROOT / "models" / "conditional.py", MODELS) == sorted(MODELS)


def output_of(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"tensorflow", "keras", "tensorflow_probability", "matplotlib"}
    assert output_of(f"import sys, rebar; print(*({heavy} & set(sys.modules)))") == []


def test_everything_but_figures_works_without_optional_packages():
    """Keras imports matplotlib if available, so both imports are disabled.

    Submodules are reachable by their attribute before anything has imported them.
    """
    program = """
import sys
sys.modules["matplotlib"] = sys.modules["tensorflow_probability"] = None
import rebar
rebar.noise.key, rebar.registry.names, rebar.estimators, rebar.core, rebar.runs
rebar.models, rebar.training, rebar.straight_through.reinmax
from rebar import *
import rebar.factory, rebar.runs.checkpoint
from rebar import hparams, registry
for name in registry.names("binary"):
    samples = registry.entry(name).n_samples(1)
    registry.make_estimator(name, hparams.HParams(model=name, n_samples=samples))
print("tensorflow" in sys.modules)
"""
    assert output_of(program) == ["True"]
