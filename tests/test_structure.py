"""The rooms of the package and the arrows between them: imports only point inwards."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rebar"

MAY_IMPORT = {
    "errors": [],
    "noise": ["errors"],
    "types": ["noise"],
    "runs": ["errors"],
    "plugins": ["errors", "runs.environment", "runs.quiet"],
    "registry": ["errors", "plugins"],
    "core": ["errors", "noise", "types"],
    "data": ["errors", "noise", "plugins"],
    "hparams": ["data.sources", "errors", "plugins", "registry"],
    "functional": ["core", "errors", "noise"],
    "models": ["core", "errors", "noise", "types"],
    "estimators": ["core", "errors", "noise", "registry", "types"],
    "objectives": ["core", "errors", "estimators.base", "noise", "plugins", "registry", "types"],
    "tfp": ["errors", "objectives"],
    "styles": ["errors"],
    "analysis": [
        *(
            "core",
            "data.images",
            "errors",
            "estimators.base",
            "noise",
            "objectives",
            "registry",
            "runs.files",
            "styles",
            "types",
        ),
    ],
    "keras": [
        *("analysis.objective_meter", "core.bounds", "core.validity", "errors", "estimators.base"),
        *("functional", "objectives.estimate", "registry"),
    ],
    "training": [
        *("analysis.variance", "core", "data.datasets", "errors", "estimators.base", "hparams"),
        *("noise", "runs", "types"),
    ],
    "factory": [
        *("errors", "estimators.base", "hparams", "models", "noise", "objectives.network"),
        *("plugins", "registry", "runs.environment", "training.learner", "training.optimizers"),
    ],
    "testing": [
        *("core", "errors", "estimators.base", "hparams", "models", "noise", "registry"),
        *("runs.checkpoint", "training.learner", "types"),
    ],
    "original": [
        *("data.images", "data.sources", "errors", "estimators.base", "factory", "hparams"),
        *("noise", "registry"),
        *("training.evaluate", "training.moments", "types"),
    ],
    "experiment": [
        *(
            "analysis.pictures",
            "core.families",
            "data",
            "errors",
            "estimators.base",
            "factory",
            "hparams",
        ),
        *("plugins", "registry", "runs", "training.run", "training.threads", "types"),
    ],
    "sweep": [
        *("data.sources", "errors", "hparams", "runs.checkpoint", "runs.files", "runs.records"),
        "training.interrupt",
    ],
    "compare": [
        *("data.sources", "errors", "experiment", "factory", "hparams", "plugins", "registry"),
        *("runs.records", "styles", "sweep.manifest"),
    ],
    "cli": [
        *("analysis", "compare", "data", "errors", "experiment", "factory", "hparams"),
        *("plugins", "runs", "styles", "sweep", "testing"),
    ],
}
"""Room -> what it may import beside itself: rooms, or single modules of them. A room is a module or
a folder of `rebar/`; what it may import stands above it. `rebar/__init__.py` names the public
objects and imports them on first use; `registry` names estimators as strings."""


def room(module: str) -> str:
    """ "core.bernoulli" -> "core"."""
    return module.partition(".")[0]


def modules():
    """Module name, without "rebar.", -> its file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "__init__.py"
    }


def imported(source: str) -> set[str]:
    """Modules of the package that a file imports anywhere, functions included, without "rebar."."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.removeprefix("rebar.") for name in names if name.startswith("rebar.")}
    return found


def allowed_by(rule: str, module: str) -> bool:
    """Whether `module`, or an object in it, is what a rule names."""
    return module == rule or module.startswith(f"{rule}.")


def test_every_room_is_in_the_table():
    assert {room(name) for name in modules()} == set(MAY_IMPORT)


def test_the_documented_layout_is_this_table():
    text = (PACKAGE.parent / "docs" / "design.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(MAY_IMPORT)


def test_the_table_points_inwards_only():
    above = set()
    for name, rules in MAY_IMPORT.items():
        assert {room(rule) for rule in rules} <= above, name
        above.add(name)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_room_imports_what_it_may_and_nothing_else(name):
    used = set()
    for module, path in modules().items():
        if room(module) != name:
            continue
        for target in imported(path.read_text()):
            rules = {rule for rule in MAY_IMPORT[name] if allowed_by(rule, target)}
            assert rules or room(target) == name, f"rebar.{module} must not import rebar.{target}"
            used |= rules
    assert used == set(MAY_IMPORT[name]), f"arrows of {name} that are in the table only"


def test_imports_are_found_wherever_they_stand():
    source = "import rebar.noise\ndef f():\n    from rebar.core import bounds, gradients\n"
    assert imported(source) == {"noise", "core.bounds", "core.gradients"}
    assert imported("from rebar import noise") == {"noise"}
    assert not allowed_by("data.sources", "data.datasets.load")
    assert not allowed_by("noise", "noisemaker")
    assert allowed_by("estimators.base", "estimators.base.Estimator")


def test_the_package_is_light_until_it_is_used():
    code = (
        "import sys, rebar; rebar.compare.read; "
        "sys.exit(bool({'pandas', 'matplotlib', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_random_numbers_are_drawn_by_noise_only():
    """Calls; a type of NumPy may be named in a signature."""
    drawn = re.compile(r"(np|numpy|tf|keras)\.random\.[\w.]+\(")
    used = {name for name, path in modules().items() if drawn.search(path.read_text())}
    assert used == {"noise"}
