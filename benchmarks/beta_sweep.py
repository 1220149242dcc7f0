"""Train CatReinMaxRK2 at many nodes beta, in both forms, and draw the final train -ELBO.

    python benchmarks/beta_sweep.py --output=beta.json --figure=beta.png

Figure 2 of Wang & Bui 2026 (arXiv 2603.08257): 8x4 on MNIST, temperature 1, Adam at 5e-4, beta from
-0.2 to 1.2 in steps of 0.05, 50 epochs; the defaults are these, 58 runs of some minutes on one
core. --epochs and --betas make it shorter. Points that are done are not computed again, and a run
that was stopped goes on, so the command can be repeated until it is through. A run whose numbers
are not finite any more is a point without a value.
"""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import common
import numpy as np

from rebar.errors import RebarError
from rebar.hparams import HParams, run_name
from rebar.hparams.presets import preset

PUBLISHED = {0.45: 214.41, 0.5: 142.97, 0.55: 133.06, 0.75: 135.19, 1.0: 140.15, 1.2: 143.66}
"""beta -> final train -ELBO after 50 epochs, of the form "released"."""

_STYLES = {"consistent": ("#0072B2", "o"), "released": ("#D55E00", "s")}
_BETAS = ",".join(f"{i / 20:g}" for i in range(-4, 25))


def betas(text):
    """A comma list of finite numbers, for argparse."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = [np.nan]
    if not np.all(np.isfinite(found)):
        raise argparse.ArgumentTypeError(f"cannot use {text!r}; allowed: numbers, e.g. 0,0.5,1")
    return found


def settings(form, beta, changes):
    """Hyperparameters of one point."""
    return HParams.parse(
        preset("cat_8x4_reinmax"),
        f"model=CatReinMaxRK2,temperature=1,rk2_form={form},rk2_beta={beta}",
        changes,
    )


def final_elbo(folder, epochs):
    """Train -ELBO of the last of `epochs` epochs of a run; None if it has not come so far."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return None
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return next((-r["elbo"] for r in records if r["epoch"] == epochs), None)


def point(form, beta, given):
    """Train one point as far as it is not, and return its record."""
    hparams = settings(form, beta, given.hparams)
    folder = Path(given.working_dir) / run_name(hparams, given.seed)
    problem = None
    if final_elbo(folder, given.epochs) is None:
        flags = [f"--hparams={hparams.format()}", f"--epochs={given.epochs}", "--eval_freq=0"]
        flags += [f"--{name}={getattr(given, name)}" for name in ("data_dir", "seed", "threads")]
        flags += [f"--working_dir={given.working_dir}", "--jit=off", "--download=no"]
        # A process each: TensorFlow keeps what a run has built.
        done = subprocess.run(
            [sys.executable, "-m", "rebar.cli.train", *flags], capture_output=True, text=True
        )
        if done.returncode:
            problem = done.stderr.strip() or f"ended with status {done.returncode}"
            if "not finite" not in problem:
                raise RebarError(f"form {form}, beta {beta:g}: {problem.removeprefix('error: ')}")
    value = None if problem else final_elbo(folder, given.epochs)
    return {"form": form, "beta": beta, "epochs": given.epochs, "loss": value, "problem": problem}


def draw(points, title):
    """The final train -ELBO over beta as a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for form, (colour, marker) in _STYLES.items():
        found = sorted((p["beta"], p["loss"]) for p in points if p["form"] == form and p["loss"])
        if found:
            axis.plot(*zip(*found, strict=True), color=colour, marker=marker, ls="--", label=form)
    if any(p["epochs"] == 50 for p in points):
        axis.plot(*zip(*PUBLISHED.items(), strict=True), "kx", label="published (released)")
    axis.set_xlabel("beta")
    axis.set_ylabel("final train -ELBO (nats)")
    axis.set_title(title, fontsize=10)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.legend()
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--betas", type=betas, default=_BETAS, help="comma list: --betas=0,0.5,1")
    parser.add_argument(
        "--forms", type=common.words(list(_STYLES)), default=list(_STYLES), help="comma list"
    )
    parser.add_argument("--epochs", type=common.integer, default=50)
    parser.add_argument("--hparams", default="", help="changes, e.g. task=digits_grey")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="as of the train command")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--working_dir", default="/tmp/rebar_beta", help="of the runs")
    parser.add_argument("--output", default="beta_sweep.json", help="a .json file")
    parser.add_argument("--figure", help="a .png file")
    given = parser.parse_args(arguments)
    points = []
    for beta in given.betas:
        for form in given.forms:
            points.append(point(form, beta, given))
            loss = points[-1]["loss"]
            shown = "not finite" if loss is None else f"train -ELBO {loss:.2f}"
            print(f"beta {beta:5.2f}  {form:10}  epoch {given.epochs}  {shown}", flush=True)
            content = {"hparams": settings(form, beta, given.hparams).to_dict(), "points": points}
            content["hparams"] |= {"rk2_beta": None, "rk2_form": None}
            common.write_records(given.output, False, seed=given.seed, **content)
    if given.figure:
        hparams = settings(given.forms[0], given.betas[0], given.hparams)
        title = f"CatReinMaxRK2 {hparams.n_categories}x{hparams.n_latents}, task={hparams.task}, "
        title += f"after {given.epochs} epochs, seed {given.seed} (all biased)"
        content = io.BytesIO()
        draw(points, title).savefig(content, format="png", dpi=150)
        common.write_file(given.figure, content.getvalue())


if __name__ == "__main__":
    common.run(main)
