"""The check command: exit status, table, and messages."""

import re
import sys

import pytest

from rebar import registry
from rebar.cli import check
from rebar.testing import HEAD, comparison

PLUGIN = """
import rebar
from rebar.estimators.leave_one_out import LeaveOneOut

class HalfScore(LeaveOneOut):
    def estimate(self, model, x, noise):
        estimate = super().estimate(model, x, noise)
        return estimate._replace(gradients=[g / 2 for g in estimate.gradients])

rebar.register("PluginLOO", LeaveOneOut, min_samples=2)
rebar.register("PluginHalfScore", HalfScore, min_samples=2)
"""
ONE = "unbiased: unconditional, 1 layer"


@pytest.fixture
def plugin(tmp_path, monkeypatch, own_registry):
    """Flag that imports a plug-in with an unbiased and a biased estimator."""
    (tmp_path / "check_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "--plugins=check_plugin"
    sys.modules.pop("check_plugin")


def run(*arguments):
    return check.main(["check", *arguments])


def refused(capsys, *arguments):
    """Return the error of a command that ends before its first check."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_names_that_pass(capsys, plugin):
    assert run("SBN", "PluginLOO", plugin, f"--only={ONE}, more samples") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == lines[2] == HEAD
    for name, result, summary in zip(("SBN", "PluginLOO"), lines[::3], lines[1::3], strict=True):
        columns = rf"ok +{ONE}, more samples +360,000 +[\d.]+ +7\.\d\d +\d\.\d% +[\d.]+"
        assert re.fullmatch(columns, result)
        assert re.fullmatch(rf"{name}: the check passed in \d+ s", summary)


def test_a_biased_plugin_among_others_fails(capsys, plugin):
    assert run("PluginHalfScore", "SBN", plugin, f"--only={ONE}, more samples") == 1
    _, result, summary, *others = capsys.readouterr().out.splitlines()
    assert re.match(rf"FAILED +{ONE}, more samples +360,000 .* biased at \S+: ", result)
    assert "the deviation is 50." in result
    assert summary.startswith("PluginHalfScore: 1 of 1 checks FAILED")
    assert others[-1].startswith("SBN: the check passed")


def test_seed_and_draws(capsys, monkeypatch):
    monkeypatch.setattr(comparison, "BATCHES", 50)

    def rows_and_z(*flags):
        assert run("SBNDisARM", f"--only={ONE}, more samples", *flags) == 0
        return re.search(r"samples +(\S+) +(\S+)", capsys.readouterr().out).groups()

    default = rows_and_z()
    assert default != rows_and_z("--seed=1")
    assert (default[0], rows_and_z("--thorough")[0]) == ("90,000", "900,000")


def test_an_unknown_name_among_valid_ones(capsys):
    err = refused(capsys, "SBNDisARM", "SBNRebarr")
    assert err.startswith("error: unknown model 'SBNRebarr'; choose from SBN, ")
    assert "; did you mean SBNRebar" in err
    assert f", {registry.names()[-1]}, or import the module" in err


def test_no_names(capsys):
    expected = (
        "error: no estimator to check; pass the name of a model, e.g. rebar-check SBNDisARM\n"
    )
    assert refused(capsys) == expected


def test_a_text_that_no_check_contains(capsys):
    assert run("SBNDisARM", "--only=unbaised") == 2
    assert capsys.readouterr().err == (
        "error: only='unbaised': no check of SBNDisARM contains it; use one of structure, "
        "evaluations, saturated logits, rows, compiled, restored, generator, unbiased, or a part "
        'of a name, e.g. "structure: unconditional, 1 layer"\n'
    )
