"""A run's lines, records and checkpoints; interruption and exact resume."""

import contextlib
import io
import json
import signal
import threading

import numpy as np
import pytest

from rebar import noise
from rebar.errors import RebarError
from rebar.hparams import Settings
from rebar.runs import checkpoint
from rebar.runs.records import format_eval, format_log_variance, format_step, parse_log
from rebar.training import blocks
from rebar.training.moments import OF_PART
from rebar.training.run import Run

from . import tiny

PER_EPOCH = 5
DATA = tiny.dataset(n_train=18)  # 4 full minibatches of 4 and one of 2


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Noise blocks of three steps, so that an epoch is blocks of 3, 1 and 1 steps."""
    monkeypatch.setattr(noise, "MAX_BLOCK_STEPS", 3)


def make_run(folder, steps, hparams="", **settings):
    run = tiny.run(folder, DATA, hparams, training_steps=steps, **{"eval_freq": 2, **settings})
    return run, run.learner


def train(folder, steps, *arguments, **keywords):
    """Variables after a run, which must not be interrupted."""
    run, learner = make_run(folder, steps, *arguments, **keywords)
    assert run.train() is None
    return tiny.values(learner)


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_seconds(records):
    assert all(record["seconds"] > 0 for record in records)
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Lines, records and variables of four epochs without a break."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(noise, "MAX_BLOCK_STEPS", 3)
        variables = train(folder, 4 * PER_EPOCH)
    return tiny.log_lines(out.getvalue()), without_seconds(metrics(folder)), variables


@pytest.fixture
def handlers():
    """Python's own handlers, however the tests were started (a background job ignores SIGINT)."""
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    previous = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


def interrupt_after(monkeypatch, steps, number):
    """A signal from another thread during the call that ends at `steps` steps."""
    take = blocks.Blocks.take

    def taking(self, step, count):
        taken = take(self, step, count)
        if step + count == steps:
            arguments = (threading.main_thread().ident, number)
            thread = threading.Thread(target=signal.pthread_kill, args=arguments)
            thread.start()
            thread.join()
        return taken

    monkeypatch.setattr(blocks.Blocks, "take", taking)


def test_lines_and_records(undisturbed):
    text, records, _ = undisturbed
    expected = ""
    for record in records:
        values = [record["elbo"]]
        expected += format_step(record["step"], values) + "\n"
        expected += format_log_variance(record["log_variance"]) + "\n"
        if record["epoch"] % 2 == 0:
            for name in ("Valid", "Test"):
                line = next(
                    v for v in text.splitlines() if v.startswith(f"{name} {record['step']}")
                )
                bound, elbo = parse_log(line)[0][name.lower()]
                assert elbo < bound < 0
                np.testing.assert_allclose(record[name.lower()], bound, atol=1e-7)
                expected += format_eval(name, record["step"], [record[name.lower()], elbo]) + "\n"
    assert text == expected
    assert [record["step"] for record in records] == [5, 10, 15, 20]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    usual = {"step", "epoch", "elbo", "log_variance", "log_variance_q"}
    assert [record.keys() - usual for record in records] == [
        set(),
        {"valid", "valid_elbo", "test", "test_elbo", "eval_samples"},
    ] * 2
    assert all(record["eval_samples"] == 3 for record in records[1::2])


def test_numbers_are_means_over_the_minibatches_of_an_epoch(undisturbed):
    _, records, _ = undisturbed
    learner = tiny.learner()
    runner = blocks.Blocks(learner, DATA.train, 4, seed=(0, 1))
    taken = [runner.take(*c) for c in ((0, 3), (3, 1), (4, 1), (5, 3), (8, 1), (9, 1))]
    for record, parts in ((records[0], taken[:3]), (records[1], taken[3:])):
        elbo, variance, of_q = (tiny.column(parts, name) for name in ("elbo", "", OF_PART))
        assert len(elbo) == PER_EPOCH
        np.testing.assert_allclose(record["elbo"], elbo.mean(), rtol=1e-12)
        np.testing.assert_allclose(record["log_variance"], np.log(variance.mean()), rtol=1e-12)
        np.testing.assert_allclose(record["log_variance_q"], np.log(of_q.mean()), rtol=1e-12)


def test_tracked_methods_have_a_line_and_a_number_each(tmp_path, capsys):
    hparams = "model=SBNTrackGradVariances,track=[REINFORCE,NVIL],follow=NVIL"
    train(tmp_path, 2 * PER_EPOCH, hparams, eval_freq=0)
    printed = parse_log(capsys.readouterr().out)
    records = metrics(tmp_path)
    assert [r["step"] for r in printed] == [r["step"] for r in records] == [5, 10]
    for line, record in zip(printed, records, strict=True):
        assert list(record["log_variance"]) == ["REINFORCE", "NVIL"]
        assert line["log_variance"] == record["log_variance"]
    # log 0 in the first epoch, as in 2017; JSON has no word for it.
    assert records[0]["log_mean_square"] is None
    assert printed[0]["values"][-1] == -np.inf
    assert records[1]["log_mean_square"] is not None


@pytest.mark.parametrize(
    ("at", "number"), [(3, signal.SIGINT), (9, signal.SIGTERM), (10, signal.SIGINT)]
)
def test_interruption_saves_and_the_next_run_goes_on_exactly(
    tmp_path, capsys, monkeypatch, handlers, undisturbed, at, number
):
    """In the middle of an epoch, after its last full minibatch, and at its end."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, at, number)
        run, learner = make_run(tmp_path, 20)
        assert run.train() == number
    assert run.steps == learner.steps == at
    assert checkpoints(tmp_path) == [f"checkpoint-{at}.npz"]
    first = tiny.log_lines(capsys.readouterr().out)
    note = f"{number.name}: saved at step {at}; rerun the same command to resume\n"
    assert first.endswith(note)

    variables = train(tmp_path, 20)
    second = tiny.log_lines(capsys.readouterr().out)
    resuming = f"resuming at step {at} from {tmp_path / f'checkpoint-{at}.npz'}\n"
    assert second.startswith(resuming)
    text, records, expected = undisturbed
    assert first.removesuffix(note) + second.removeprefix(resuming) == text
    assert without_seconds(metrics(tmp_path)) == records
    assert [s for s, tag in tiny.scalars(tmp_path) if tag == "train/elbo"] == [5, 10, 15, 20]
    tiny.assert_same(variables, expected)


def test_records_beyond_the_checkpoint_are_cut_after_a_crash(
    tmp_path, capsys, monkeypatch, undisturbed
):
    """A crash loses what came after the last checkpoint, here that of step 3."""

    class CrashError(Exception):
        pass

    with monkeypatch.context() as patch:
        save = checkpoint.save

        def save_once(folder, step, *arguments):
            patch.setattr(checkpoint, "save", lambda *a: None)
            return save(folder, step, *arguments)

        def crash(self, images, n_samples, stream):
            raise CrashError

        patch.setattr(checkpoint, "save", save_once)
        patch.setattr("rebar.training.evaluate.Evaluator.__call__", crash)
        with pytest.raises(CrashError):
            train(tmp_path, 20, save_seconds=0, eval_freq=3)
    assert [r["step"] for r in metrics(tmp_path)] == [5, 10]
    assert {step for step, _ in tiny.scalars(tmp_path)} == {5, 10}
    assert checkpoints(tmp_path) == ["checkpoint-3.npz"]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "elb')

    capsys.readouterr()
    variables = train(tmp_path, 20)
    text, records, expected = undisturbed
    resuming, dropped, rest = tiny.log_lines(capsys.readouterr().out).split("\n", 2)
    assert resuming.startswith("resuming at step 3 ")
    assert dropped == (
        f"3 lines of {tmp_path / 'metrics.jsonl'} beyond step 3 are dropped; these steps are "
        "repeated"
    )
    assert rest == text
    assert without_seconds(metrics(tmp_path)) == records
    tiny.assert_same(variables, expected)
    found = tiny.scalars(tmp_path)
    assert [found[r["step"], "train/elbo"] for r in records] == [
        pytest.approx(r["elbo"], rel=1e-6) for r in records
    ]
    assert len(found) == 3 * len(records) + 4 * 2


def test_metrics_without_a_checkpoint_are_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n')
    train(tmp_path, 3)
    assert [r["step"] for r in metrics(tmp_path)] == [3]


def test_a_run_that_ends_inside_an_epoch_can_go_on_to_the_whole_epoch(
    tmp_path, capsys, undisturbed
):
    train(tmp_path, 8)
    (short,) = metrics(tmp_path)[1:]
    assert (short["step"], short["epoch"]) == (8, 1.6)
    assert "valid" not in short
    assert [r["step"] for r in parse_log(capsys.readouterr().out)] == [5, 8]

    variables = train(tmp_path, 20)
    text, records, expected = undisturbed
    after = text[text.index("Step 10:") :]
    assert tiny.log_lines(capsys.readouterr().out).partition("\n")[2] == after
    found = without_seconds(metrics(tmp_path))
    assert [r for r in found if r["step"] != 8] == records
    tiny.assert_same(variables, expected)


def test_epochs_limit_a_run_as_training_steps_do(tmp_path):
    run, _ = make_run(tmp_path, 1000, epochs=2, eval_freq=0)
    run.train()
    assert run.steps == 2 * PER_EPOCH
    run, _ = make_run(tmp_path / "other", 7, epochs=2, eval_freq=0)
    run.train()
    assert run.steps == 7


def test_a_finished_run_does_nothing_and_says_so(tmp_path, capsys):
    train(tmp_path, 5)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    for asked in (5, 3):
        train(tmp_path, asked)
        assert capsys.readouterr().out.splitlines()[1:] == [
            f"already complete: 5 of {asked} steps; raise --training_steps or --epochs to continue"
        ]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_checkpoints_are_written_now_and_then(tmp_path, monkeypatch):
    saved = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda folder, step, *a: saved.append(step) or save(folder, step, *a)
    )
    train(tmp_path, 10, save_seconds=0, eval_freq=0)
    assert saved == [3, 4, 5, 8, 9, 10]
    assert checkpoints(tmp_path) == ["checkpoint-10.npz", "checkpoint-9.npz"]


TRACKED = "model=SBNTrackGradVariances,track=[NVIL,Broken],follow=NVIL"


@pytest.mark.parametrize(
    ("hparams", "what", "save_seconds", "kept", "files"),
    [
        ("model=Broken", "prior/logits", 1e9, "none was written yet", []),
        ("model=Broken", "prior/logits", 0, "step 5", ["checkpoint-4.npz", "checkpoint-5.npz"]),
        (TRACKED, "q_0/kernel by Broken", 0, "step 5", ["checkpoint-4.npz", "checkpoint-5.npz"]),
    ],
)
def test_the_first_number_that_is_not_finite_stops_the_run(
    tmp_path, capsys, own_registry, hparams, what, save_seconds, kept, files
):
    """Step 7 is the second of the three steps of its call."""
    own_registry.register("Broken", tiny.Broken)
    run, learner = make_run(tmp_path, 20, hparams, save_seconds=save_seconds, eval_freq=0)
    message = (
        rf"the gradient of {what} at step 7 \(step 6 was finite\), with the estimator "
        rf"(Broken|Tracked);.* is kept: {kept}$"
    )
    with pytest.raises(RebarError, match=message):
        run.train()
    assert checkpoints(tmp_path) == files
    assert [r["step"] for r in metrics(tmp_path)] == [5]
    assert [r["step"] for r in parse_log(capsys.readouterr().out)] == [5]
    saved = checkpoint.latest(tmp_path).variables if files else {}
    assert all(np.all(np.isfinite(array)) for array in saved.values())
    assert not all(np.all(np.isfinite(array)) for array in tiny.values(learner).values())


def test_another_configuration_is_refused_and_nothing_is_touched(tmp_path):
    train(tmp_path, 5)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        RebarError,
        match=r"checkpoint-5\.npz is of another run: n_layer: saved 1, now 2; seed: saved 0, now 1",
    ):
        make_run(tmp_path, 10, "n_layer=2", seed=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RebarError, match=r"cannot create or lock .*file"):
            make_run(folder, 5)
    assert (tmp_path / "file").read_bytes() == b""


def test_two_runs_in_one_folder_are_refused(tmp_path):
    first, _ = make_run(tmp_path, 2)
    with pytest.raises(RebarError, match=r"another process trains in .*--working_dir"):
        make_run(tmp_path, 2)
    first.train()
    make_run(tmp_path, 3)[0].train()


def test_other_data_is_refused(tmp_path):
    train(tmp_path, 2)
    learner = tiny.learner(mean=np.zeros(tiny.PIXELS))
    with pytest.raises(RebarError, match="trained on other data"):
        Run(learner, DATA, tmp_path, tiny.parse(), Settings())
