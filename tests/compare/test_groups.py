"""Which runs make a line, which lines a figure, and what is said of the rest."""

import json

import pytest

from tests.compare.synthetic import DICT_2017, LOG_2017, compare, record, write_run


def names(comparison):
    return [line.name for line in comparison.lines]


def test_seeds_and_trials_are_repeats(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, seed=1, trial=2)
    (comparison,) = compare(tmp_path)
    (line,) = comparison.lines
    assert len(line.runs) == 3
    assert (line.label, line.unbiased, line.evaluations) == ("DisARM", True, 24)
    assert comparison.notes == []


@pytest.mark.parametrize(
    ("change", "name"),
    [({"learning_rate": 0.5}, "learning_rate=0.5"), ({"beta2": 0.9}, "beta2=0.9")],
)
def test_another_setting_makes_another_line_and_is_named(tmp_path, change, name):
    for seed in range(2):
        write_run(tmp_path, seed=seed)
        write_run(tmp_path, seed=seed, **change)
    (comparison,) = compare(tmp_path)
    assert [len(line.runs) for line in comparison.lines] == [2, 2]
    assert f"DisARM, {name}" in names(comparison)


def test_a_setting_of_another_estimator_is_named(tmp_path):
    nvil, disarm = (write_run(tmp_path, model) for model in ("SBNNVIL", "SBNDisARM"))
    (comparison,) = compare(nvil, write_run(tmp_path, "SBNReinforceLOO", n_samples=2), disarm)
    assert names(comparison) == ["NVIL", "LOO, n_samples=2", "DisARM"]


@pytest.mark.parametrize(
    "change", [{"task": "omni"}, {"n_layer": 2}, {"nonlinear": True}, {"dynamic_b": True}]
)
def test_another_task_or_architecture_makes_another_figure(tmp_path, change):
    write_run(tmp_path)
    write_run(tmp_path, **change)
    found = compare(tmp_path)
    assert len(found) == 2
    assert len({comparison.slug for comparison in found}) == 2
    assert len({comparison.title for comparison in found}) == 2


def test_activation_counts_only_where_it_is_used(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, activation="leaky_relu")
    assert len(compare(tmp_path)) == 1
    write_run(tmp_path, nonlinear=True)
    write_run(tmp_path, nonlinear=True, activation="leaky_relu")
    assert len(compare(tmp_path)) == 3


def test_defaults_of_hparams_that_came_later(tmp_path):
    write_run(tmp_path, seed=0)
    folder = write_run(tmp_path, seed=1)
    content = json.loads((folder / "hparams.json").read_text())
    del content["hparams"]["continuation"]
    (folder / "hparams.json").write_text(json.dumps(content))
    (comparison,) = compare(tmp_path)
    assert len(comparison.lines[0].runs) == 2


def test_other_samples_of_the_bound_split_a_line(tmp_path):
    write_run(tmp_path, seed=0, records=[record(300, test=-90, eval_samples=100)])
    write_run(tmp_path, seed=1, records=[record(300, test=-80, eval_samples=5000)])
    (comparison,) = compare(tmp_path)
    assert names(comparison) == ["DisARM, eval_samples=100", "DisARM, eval_samples=5000"]


def test_a_tracking_run_has_a_line_for_each_method_and_a_figure_of_its_own(tmp_path):
    variance = {"NVIL": 2.0, "Gumbel": 1.0, "DisARM": 3.0}
    facts = {
        label: {"unbiased": label != "Gumbel", "evaluations": 24 * cost}
        for cost, label in enumerate(variance, start=1)
    }
    write_run(
        tmp_path,
        "SBNTrackGradVariances",
        records=[record(300, variance=variance)],
        about={"estimators": facts},
        track=tuple(variance),
        follow="DisARM",
    )
    write_run(tmp_path, "SBNDisARM")
    tracked, single = sorted(compare(tmp_path), key=lambda c: c.follow is None)
    assert names(tracked) == ["NVIL", "Gumbel", "DisARM"]
    assert [line.trains for line in tracked.lines] == [False, False, True]
    assert [line.unbiased for line in tracked.lines] == [True, False, True]
    assert [line.evaluations for line in tracked.lines] == [24, 48, 72]
    assert tracked.follow == "DisARM"
    assert (single.follow, names(single)) == (None, ["DisARM"])


def test_a_run_that_was_cut_is_named_and_not_in_the_mean(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1)
    cut = write_run(tmp_path, seed=2, records=[record(100)])
    (comparison,) = compare(tmp_path)
    (line,) = comparison.lines
    assert (len(line.runs), len(line.short)) == (2, 1)
    (note,) = comparison.notes
    assert note.startswith(f"{cut}: unfinished")
    assert "step 100 of 300" in note
    assert "excluded from the mean" in note


def test_without_a_plan_the_furthest_run_of_the_figure_counts(tmp_path):
    write_run(tmp_path, "SBNNVIL", about={"schedule": {}})
    write_run(tmp_path, seed=0, records=[record(s) for s in (100, 200)], about={"schedule": {}})
    write_run(tmp_path, seed=1, records=[record(100)], about={"schedule": {}})
    (comparison,) = compare(tmp_path)
    disarm = comparison.lines[0]
    # None is finished: those at least half as far as the furthest make the mean.
    assert (len(disarm.runs), disarm.short) == (2, [])


def test_all_unfinished(tmp_path):
    path = write_run(tmp_path, planned=1000)
    (comparison,) = compare(tmp_path)
    assert len(comparison.lines[0].runs) == 1
    (note,) = comparison.notes
    assert note.startswith(f"{path}: unfinished")
    assert note.endswith("step 300 of 1000")


def test_a_run_that_diverged_is_named_and_not_in_the_mean(tmp_path):
    write_run(tmp_path, seed=0)
    bad = write_run(tmp_path, seed=1, records=[record(100), record(200, None), record(300, None)])
    (comparison,) = compare(tmp_path)
    (line,) = comparison.lines
    assert (len(line.runs), len(line.short)) == (1, 1)
    (note,) = comparison.notes
    assert note.startswith(f"{bad}: ")
    assert "non-finite, step 100 of 300" in note


def test_the_same_run_twice_counts_once(tmp_path):
    kept = write_run(tmp_path / "a", seed=0)
    again = write_run(tmp_path / "b", seed=0, records=[record(100)])
    (comparison,) = compare(tmp_path)
    assert len(comparison.lines[0].runs) == 1
    (note,) = comparison.notes
    assert note.startswith(f"{again}: left out")
    assert str(kept) in note


def test_other_data_and_other_machines_are_named(tmp_path):
    write_run(tmp_path, seed=0, about={"threads": 1})
    write_run(tmp_path, "SBNNVIL", about={"data": "digits of mine", "threads": 2})
    (comparison,) = compare(tmp_path)
    assert "NVIL, data=digits of mine" in names(comparison)
    assert any(note.startswith("threads differs") for note in comparison.notes)


def test_output_of_the_2017_script_is_a_line_of_its_own(tmp_path):
    write_run(tmp_path, "SBNGumbel", task="sbn", n_layer=2, learning_rate=0.0003)
    (tmp_path / "old.log").write_text(DICT_2017 + LOG_2017)
    (comparison,) = compare(tmp_path / "old.log", tmp_path)
    assert [line.label for line in comparison.lines] == ["DynamicREBAR", "Gumbel"]
    assert [line.name for line in comparison.lines] == ["DynamicREBAR, code=2017", "Gumbel"]
    (alone,) = compare(tmp_path / "old.log")
    assert alone.title.endswith("2017 code")


def test_repeats_of_the_2017_script_have_no_seed(tmp_path):
    (tmp_path / "a.log").write_text(DICT_2017 + LOG_2017)
    (tmp_path / "b.log").write_text(DICT_2017 + LOG_2017.replace("231.02", "231.07"))
    (comparison,) = compare(tmp_path / "a.log", tmp_path / "b.log")
    assert len(comparison.lines[0].runs) == 2


def test_hierarchies_are_named_by_their_layers(tmp_path):
    facts = {"REBAR": {"unbiased": True, "evaluations": 1}}
    for layers in (["50", "8x4"], ["8x4", "50"]):
        about = {"label": "REBAR", "estimators": facts}
        write_run(tmp_path, "SBNRebar", about=about, latents=layers)
    assert sorted((c.slug, c.title) for c in compare(tmp_path)) == [
        (f"digits-{sizes}", f"Binarized digits (8x8), 2 stochastic layers of {text}, linear")
        for sizes, text in (
            ("50-8x4", "50 units and 4 variables of 8 categories"),
            ("8x4-50", "4 variables of 8 categories and 50 units"),
        )
    ]


def test_categorical_models_are_named_by_their_variables(tmp_path):
    for n_categories, n_latents in ((8, 4), (64, 8)):
        for model in ("CatReinMax", "CatST"):
            label = model.removeprefix("Cat")
            facts = {label: {"unbiased": False, "evaluations": 1}}
            write_run(
                tmp_path,
                model,
                about={"label": label, "estimators": facts},
                task="mnist",
                n_categories=n_categories,
                n_latents=n_latents,
            )
    found = compare(tmp_path)
    assert sorted(c.title for c in found) == [
        "Grayscale MNIST, 4 variables of 8 categories",
        "Grayscale MNIST, 8 variables of 64 categories",
    ]
    assert [names(c) for c in found] == [["ReinMax", "ST"]] * 2
