"""Every example command in every --help text is accepted."""

import glob
import importlib
import shlex

import pytest

from rebar.cli import download, train
from tests.compare.synthetic import DICT_2017, LOG_2017, write_run

COMMANDS = ("train", "download", "analyze", "draw", "compare", "sweep")
PROGRAMS = {"rebar_train.py": "train", "download_data.py": "download"}


def examples():
    """(command, words) of the examples of all commands."""
    for command in COMMANDS:
        text = importlib.import_module(f"rebar.cli.{command}").__doc__
        for line in text.splitlines():
            if line.startswith("  "):
                words = shlex.split(line)
                words = words[1:] if words[0] == "python" else words
                name = PROGRAMS.get(words[0]) or words[0].removeprefix("rebar-")
                yield command, name, words


EXAMPLES = list(examples())


def test_every_command_has_examples_of_its_own():
    assert {command for command, *_ in EXAMPLES} == set(COMMANDS)
    assert all(command == name for command, name, _ in EXAMPLES)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A small run with a snapshot, for commands that read one."""
    folder = tmp_path_factory.mktemp("run")
    sizes = "model=CatST,task=digits_grey,n_categories=2,n_latents=2"
    flags = [f"--hparams={sizes}", "--epochs=1", "--keep_epochs=1", "--eval_freq=0", "--jit=off"]
    assert train.main(["rebar-train", *flags, f"--working_dir={folder}"]) == 0
    return str(next(folder.glob("Cat*")))


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """The current folder has the files that examples name."""
    monkeypatch.chdir(tmp_path)
    for model in ("SBNNVIL", "SBNDisARM"):
        name = f"{model}-sbn-2x200-lr0.001"
        write_run(tmp_path / "runs", model, name=name, task="sbn", n_layer=2)
    write_run(tmp_path / "sweep")
    for name in ("run1.log", "run2.log"):
        (tmp_path / name).write_text(DICT_2017 + LOG_2017)


def arguments_of(words, run_folder):
    """Arguments of an example, with names of runs replaced and globs expanded as by a shell."""
    for word in words[1:]:
        if word.startswith(("RUN_FOLDER", "/tmp/rebar/")):
            rest = word.partition("RUN_FOLDER")[2]
            yield from sorted(glob.glob(run_folder + rest)) if rest else [run_folder]
        else:
            yield "runs" if word == "/tmp/rebar" else word


@pytest.mark.parametrize(
    ("name", "words"),
    [pytest.param(name, words, id=" ".join(words)) for _, name, words in EXAMPLES],
)
def test_example_is_accepted(name, words, run_folder, inputs, monkeypatch):
    """Up to the point where the work starts, which is kept short or left out."""
    arguments = list(arguments_of(words, run_folder))
    started = []
    if name == "train":
        monkeypatch.setattr(train, "ensure", lambda *args, **more: started.append(args))
        monkeypatch.setattr(train, "_train", lambda *args: None)
    elif name == "download":
        monkeypatch.setattr(download, "ensure", lambda *args, **more: started.append(args))
    elif name == "analyze":
        arguments += ["--draws=20", "--batch_size=2"]
        if not any(word.startswith("--estimators") for word in words):
            arguments.append("--estimators=REINFORCE")
    elif name == "sweep":
        end = arguments.index("--")
        arguments.insert(end, "--dry_run")
    main = importlib.import_module(f"rebar.cli.{name}").main
    assert main([words[0], *arguments]) == 0
    assert bool(started) == (name in ("train", "download"))
