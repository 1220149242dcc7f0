"""What is in a figure: lines, bands, dashes, names, limits."""

import numpy as np
import pytest

from rebar import styles
from rebar.compare import PANELS, figures
from tests.compare.synthetic import compare, record, write_run

STEPS = range(100, 2001, 100)


def drawn(parent, kind="steps", panels=PANELS):
    """The comparison of a folder, its figure, and its notes."""
    (comparison,) = compare(parent)
    return comparison, figures.draw(comparison, panels, kind), comparison.notes


def curve(seed, scale):
    return [record(s, -1000 / s - seed, variance=scale * (1 + seed)) for s in STEPS]


@pytest.fixture
def runs(tmp_path):
    """Two estimators, two seeds, one that was cut."""
    for seed in range(2):
        for scale, model in enumerate(("SBNDisARM", "SBNGumbel"), start=1):
            write_run(tmp_path, model, seed, curve(seed, scale), planned=2000)
    write_run(tmp_path, "SBNDisARM", 2, curve(5, 1)[:12], planned=2000)
    return tmp_path


def test_lines_bands_colors_and_dashes(runs):
    _, made, _ = drawn(runs)
    variance, elbo = made.axes
    assert [place.get_title() for place in made.axes] == [
        "Gradient variance (running)",
        "Train ELBO",
    ]
    for place in (variance, elbo):
        colors = [line.get_color() for line in place.lines]
        gumbel, disarm = (styles.STYLES[label].color for label in ("Gumbel", "DisARM"))
        # The cut run is thin, below its line.
        assert colors == [disarm, disarm, gumbel]
        widths = [line.get_linewidth() for line in place.lines]
        assert widths[0] < widths[1] == widths[2]
        assert [line.is_dashed() for line in place.lines] == [False, False, True]
        assert len(place.collections) == 2
    assert variance.lines[1].get_ydata() == pytest.approx(np.full(20, np.log(1.5)))
    band = variance.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((np.log(1), np.log(2)))
    (legend,) = made.legends
    assert [text.get_text() for text in legend.get_texts()] == ["DisARM", "Gumbel (biased)"]
    said = legend.get_title().get_text()
    assert said == "Mean and standard error over 2 seeds. Thin: unfinished runs. Dashed: biased."
    assert made.get_suptitle().startswith("Binarized digits (8x8), 1 stochastic layer")
    assert elbo.get_ylabel() == "ELBO (nats per image)"


def test_the_legend_reads_along_its_rows_in_the_order_given(tmp_path):
    rates = [0.5, 0.25, 0.125, 0.0625, 0.75]
    paths = [write_run(tmp_path, learning_rate=rate) for rate in rates]
    (comparison,) = compare(*paths)
    drawing = figures.draw(comparison, ["elbo"])
    drawing.draw_without_rendering()
    texts = drawing.legends[0].get_texts()
    places = [(-text.get_window_extent().y0, text.get_window_extent().x0) for text in texts]
    read = [text.get_text() for _, text in sorted(zip(places, texts, strict=True))]
    assert read == [f"DisARM, learning_rate={rate}" for rate in rates]


def test_one_seed_has_no_band_and_says_so(tmp_path):
    write_run(tmp_path)
    _, made, _ = drawn(tmp_path)
    assert all(not place.collections for place in made.axes)
    assert made.legends[0].get_title().get_text() == "One seed, no band."


def test_the_caption_names_different_counts_of_seeds(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, "SBNNVIL")
    _, made, _ = drawn(tmp_path)
    assert "standard error over 1 or 2 seeds" in made.legends[0].get_title().get_text()


def test_limits_leave_out_the_beginning(runs):
    _, made, _ = drawn(runs)
    low, high = made.axes[1].get_ylim()
    assert low > -11
    assert high > -0.5


def test_the_legend_is_beside_the_panels(runs):
    _, made, _ = drawn(runs)
    made.draw_without_rendering()
    below = made.legends[0].get_window_extent().y1
    assert all(place.xaxis.get_tightbbox().y0 >= below for place in made.axes)


@pytest.mark.parametrize(
    ("kind", "label", "last"),
    [
        ("steps", "training steps", 2000),
        ("epochs", "epochs", 20),
        ("seconds", "training time (seconds)", 40),
        ("evaluations", "evaluations of f", 48000),
    ],
)
def test_axes(runs, kind, label, last):
    _, made, notes = drawn(runs, kind)
    assert made.axes[0].get_xlabel() == label
    assert made.axes[0].lines[-1].get_xdata()[-1] == pytest.approx(last)
    assert not [note for note in notes if "drawn against" in note]


def test_an_axis_that_some_logs_do_not_have(runs):
    records = [{k: v for k, v in one.items() if k != "seconds"} for one in curve(0, 1)]
    bare = write_run(runs, "SBNNVIL", records=records, planned=2000)
    _, made, notes = drawn(runs, "seconds")
    assert made.axes[0].get_xlabel() == "training steps"
    said = f"drawn against steps instead of seconds, which is not in {bare}"
    assert said in notes


def test_panels_of_other_columns_and_unknown_ones(tmp_path):
    write_run(tmp_path, records=[record(s, temperature=0.5) for s in (100, 200)], planned=200)
    _, made, notes = drawn(tmp_path, panels=["temperature", "typo"])
    assert [place.get_title() for place in made.axes] == ["temperature"]
    assert notes == ["no typo in the logs of DisARM"]
    _, made, notes = drawn(tmp_path)
    assert len(made.axes) == 2
    unmeasured = "no conditional variance was measured for DisARM; train with --variance_freq=N"
    assert f"{unmeasured} to add it" in notes
    assert drawn(tmp_path, panels=["typo"])[1] is None


def test_all_panels_and_parts_of_the_variance(tmp_path):
    measured = {"DisARM": {"total": 1.0, "q": 2.0, "evaluations": 24, "standard_error": {}}}
    more = {"test": -90.0, "eval_samples": 7, "estimator_variance": measured}
    write_run(tmp_path, records=[record(s, **more) for s in (100, 200, 300)])
    _, made, notes = drawn(tmp_path, panels=[*PANELS, "estimator_variance/q"])
    assert notes == []
    titles = [place.get_title() for place in made.axes]
    assert titles[2:4] == ["Test: 7-sample bound", "Conditional gradient variance"]
    assert titles[4] == "Conditional gradient variance, q"
    assert made.axes[4].lines[0].get_ydata() == pytest.approx(np.full(3, np.log(2)))
    _, _, notes = drawn(tmp_path, panels=["elbo", "estimator_variance/q_7"])
    assert notes == ["no estimator_variance/q_7 in the logs of DisARM"]


def test_tracked_methods_are_in_the_panels_of_variances_only(tmp_path):
    write_run(
        tmp_path,
        "SBNTrackGradVariances",
        records=[record(s, variance={"NVIL": 2.0, "DisARM": 1.0}) for s in (100, 200, 300)],
        track=("NVIL", "DisARM"),
        follow="DisARM",
    )
    _, made, _ = drawn(tmp_path)
    variance, elbo = made.axes
    assert [line.get_color() for line in variance.lines] == [
        styles.STYLES["NVIL"].color,
        styles.STYLES["DisARM"].color,
    ]
    assert [line.get_color() for line in elbo.lines] == [styles.STYLES["DisARM"].color]
    (legend,) = made.legends
    assert "All on the trajectory of DisARM." in legend.get_title().get_text()
    assert [text.get_text() for text in legend.get_texts()] == ["NVIL", "DisARM"]


def test_a_panel_without_common_steps_is_empty(tmp_path):
    for seed in range(2):
        more = ({"test": -9.0} if step % 200 == 100 * seed else {} for step in (100, 200))
        write_run(
            tmp_path,
            seed=seed,
            records=[record(s, **m) for s, m in zip((100, 200), more, strict=True)],
        )
    _, made, _ = drawn(tmp_path, panels=["elbo", "test"])
    assert [len(place.lines[0].get_xdata()) for place in made.axes] == [2, 0]


def test_files(runs):
    figure = drawn(runs)[1]
    assert styles.render(figure, "png").startswith(b"\x89PNG")
    assert styles.render(figure, "pdf").startswith(b"%PDF")
