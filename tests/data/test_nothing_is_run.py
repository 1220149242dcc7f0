"""No reader of the package can be made to run what a file holds."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rebar"
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile"}


def faults(source):
    """What in a module could run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from UNSAFE_MODULES.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from UNSAFE_MODULES.intersection([node.module])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from UNSAFE_CALLS.intersection([node.func.id])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if options.get("allow_pickle") != "False":
                yield ast.unparse(node)


def test_in_no_module():
    found = {str(p): list(faults(p.read_text())) for p in PACKAGE.rglob("*.py")}
    assert len(found) > 50
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source", ["import pickle", "from pickle import load", "eval(x)", "np.load(x)"]
)
def test_the_faults_are_seen(source):
    assert len(list(faults(source))) == 1
