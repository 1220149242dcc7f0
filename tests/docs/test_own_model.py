"""docs/own_model.md: run its programs and compare its numbers and table with the code."""

import re
import runpy
from pathlib import Path

import pytest
import tensorflow as tf

import rebar
from rebar import registry

TEXT = (Path(__file__).parents[2] / "docs" / "own_model.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
PROGRAMS = {
    match.group(1): (match.group(0), text)
    for text in SECTIONS.values()
    if (match := re.search(r"^```python\n# (\S+\.py)\n.*?^```", text, re.DOTALL | re.MULTILINE))
}
TOLERANCE = {"gates.py": 2.0}
"""Program -> largest difference from the numbers of the text; other machines round differently."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, tmp_path, capsys):
    block, section = PROGRAMS[name]
    lines = block.splitlines()[1:-1]
    assert len([line for line in lines if line.strip()]) <= 40
    path = tmp_path / name
    path.write_text("\n".join(lines))
    runpy.run_path(str(path), run_name="__main__")
    numbers = [float(n) for n in re.findall(r": (-?\d+\.?\d*)", capsys.readouterr().out)]
    assert len(numbers) >= 2
    prose = " ".join(section.partition("```")[0].split())
    stated = [float(n) for n in re.findall(r"-?\d+\.\d+|(?<=training )\d+|(?<=is )\d+", prose)]
    assert stated == pytest.approx(numbers, abs=TOLERANCE.get(name, 0.5))


def test_five_programs():
    assert list(PROGRAMS) == [
        *("vae.py", "gates.py", "hierarchy.py", "codebook.py", "black_box.py"),
    ]


def test_the_table_of_estimators():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) \|", SECTIONS["Choose an estimator"], re.M)
    named = {}
    for names, unbiased, sites in rows:
        for name in re.findall(r"`([\w-]+)`", names):
            named[name] = (unbiased.startswith("yes"), sites)
    labels = {label for latents in registry.LATENTS for label in registry.labels(latents)}
    assert set(named) == labels - {"Exact"}
    for name, (unbiased, sites) in named.items():
        estimator = rebar.estimator(name)
        assert estimator.unbiased == unbiased, name
        only = "categorical" if "categorical" in estimator.families else "Bernoulli"
        assert sites == ("all" if len(estimator.families) == 2 else only), name


def test_evaluations_of_the_table():
    """K = 2 samples, L = 2 sites of H = 2 units, or of V = 2 variables of C = 3, k = 1."""
    rows = re.findall(
        r"^\| (`.*?) \| .*? \| (.*?) \| (.*?) \|", SECTIONS["Choose an estimator"], re.M
    )

    def of_units(sample, x):
        a = sample.bernoulli("a", x)
        b = sample.bernoulli("b", x + a)
        return tf.reduce_sum(a * b, axis=1) - sample.log_q

    def of_categories(sample, x):
        a = sample.categorical("a", tf.stack([x] * 3, axis=-1))
        b = sample.categorical("b", a)
        return tf.reduce_sum(a * b, axis=[1, 2]) - sample.log_q

    for names, sites, stated in rows:
        stated = stated.partition(" >=")[0].replace("`", "")
        formula = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", stated)
        expected = eval(
            formula, {"K": 2, "L": 2, "H": 2, "V": 2, "C": 3, "k": 1, "ovis_samples": 0}
        )
        objective = of_categories if sites == "categorical" else of_units
        for name in re.findall(r"`([\w-]+)`", names):
            estimator = rebar.estimator(name)
            x = tf.zeros([3, 2])
            result = rebar.estimate(objective, x, estimator=estimator, n_samples=2, seed=0, step=0)
            assert result.evaluations == expected, name
