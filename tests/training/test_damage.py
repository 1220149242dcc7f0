"""Damage to a run's files at random places is told, and never taken for a state of the run."""

import errno
import io
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rebar.errors import RebarError
from rebar.runs import checkpoint, environment
from rebar.runs.checkpoint import latest

from . import faults, tiny

DATA = tiny.dataset(n_train=18)


def make_run(folder, steps=5, said=None, **settings):
    say = print if said is None else said.append
    settings = {"training_steps": steps, "save_seconds": 0, **settings}
    return tiny.run(folder, DATA, "model=SBNDynamicRebar,n_layer=2", say=say, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the folder of a run of an epoch holds: checkpoints of steps 4 and 5."""
    folder = tmp_path_factory.mktemp("trained")
    run = make_run(folder)
    assert run.train() is None
    return faults.files(folder)


@pytest.fixture
def folder(tmp_path, trained):
    faults.put(tmp_path / "run", trained)
    return tmp_path / "run"


def regions(content):
    """Region of a checkpoint -> places in it: the directory, headers of arrays, and their data."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members, directory = archive.infolist(), archive.start_dir
    data, headers = [], []
    for member in members:
        at = member.header_offset
        name, extra = np.frombuffer(content[at + 26 : at + 30], "<u2").tolist()
        start = member.header_offset + 30 + name + extra
        first = start + 10 + int.from_bytes(content[start + 8 :][:2], "little")
        headers += range(member.header_offset, first)
        data += range(first, start + member.file_size)
    return {"directory": range(directory, len(content)), "headers": headers, "data": data}


def damage(content, kind, place, rng):
    """`content` with a bit flipped, or something else done, at a place."""
    bytes_ = bytearray(content)
    if kind == "bit flipped":
        bytes_[place] ^= 1 << rng.integers(8)
    elif kind == "16 random bytes":
        bytes_[place : place + 16] = rng.bytes(16)
    elif kind == "block of zeros":
        bytes_[place // 512 * 512 : place // 512 * 512 + 512] = bytes(512)
    elif kind == "cut off":
        del bytes_[place:]
    else:
        del bytes_[place : place + rng.integers(1, 100)]
    return bytes(bytes_)


KINDS = ("bit flipped", "16 random bytes", "block of zeros", "cut off", "bytes missing")


@pytest.mark.parametrize("times", [8, pytest.param(400, marks=pytest.mark.slow)])
def test_damage_anywhere_is_detected_or_harmless(folder, trained, times):
    """Then the checkpoint before is taken, which is said; harmless: some bits mean nothing."""
    newest, before = trained["checkpoint-5.npz"], latest(folder)
    previous = checkpoint._load(folder / "checkpoint-4.npz")
    rng = np.random.default_rng(0)
    counts = {}
    for region, places in regions(newest).items():
        for kind in KINDS:
            detected = 0
            for _ in range(times):
                damaged = damage(newest, kind, int(rng.choice(places)), rng)
                (folder / "checkpoint-5.npz").write_bytes(damaged)
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    found = latest(folder)
                told = [w for w in told if w.category is RuntimeWarning]
                expected = previous if told else before
                detected += len(told)
                assert found.step == expected.step
                assert found.metadata == expected.metadata
                tiny.assert_same(found.variables, expected.variables)
                tiny.assert_same(found.extra, expected.extra)
            counts[region, kind] = detected
            print(f"{region}, {kind}: {detected} of {times} detected, the others changed nothing")
    assert counts["data", "bit flipped"] == counts["data", "cut off"] == times
    assert min(counts.values()) > 0


def test_what_is_found_is_said_when_a_run_goes_on(folder):
    path = folder / "checkpoint-5.npz"
    path.write_bytes(path.read_bytes()[:-1])
    said = []
    run = make_run(folder, said=said)
    assert run.steps == 4
    assert said[0].startswith(f"warning: damaged checkpoint {path} (")
    assert said[0].endswith("going back to checkpoint-4.npz")
    assert said[1] == f"resuming at step 4 from {folder / 'checkpoint-4.npz'}"
    assert said[2].startswith("1 lines of ")
    assert len(said) == 3
    run._lock.close()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"description": b"{}"},
        {"description": b"[]"},
        {"description": b"rubbish"},
        {"description": b'{"step": 1}'},
        {"description": b'{"step": 1, "names": [], "metadata": {}}', "extra/x": b"1"},
        {"description": b'{"step": 1, "names": ["extra/x"], "metadata": {}}'},
        {"description": b'{"step": 1, "names": ["other/x"], "metadata": {}}', "other/x": b"1"},
    ],
)
def test_a_foreign_archive_is_refused(tmp_path, arrays):
    arrays = {name: np.frombuffer(value, np.uint8) for name, value in arrays.items()}
    np.savez(tmp_path / "checkpoint-1.npz", **arrays)
    with pytest.raises(RebarError, match="no intact checkpoint found"):
        latest(tmp_path)


def test_a_disk_that_cannot_read_a_file_any_more(folder, monkeypatch):
    read = Path.read_bytes

    def broken(path):
        if path.name == "checkpoint-5.npz":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.warns(
        RuntimeWarning, match=r"checkpoint-5\.npz \(Input/output error\); going back"
    ):
        assert latest(folder).step == 4


def test_other_libraries_are_said_and_the_run_goes_on(folder, monkeypatch):
    made = environment.versions()
    changed = {**made, "tensorflow": "3.0", "numpy": "3.1"}
    monkeypatch.setattr(environment, "versions", lambda: changed)
    said = []
    run = make_run(folder, 7, said)
    assert said[1].startswith("warning: the environment changed since checkpoint-5.npz was written")
    assert f"tensorflow: saved '{made['tensorflow']}', now '3.0'. " in said[1]
    assert f"numpy: saved '{made['numpy']}', now '3.1'; " in said[1]
    assert len(said) == 2
    assert run.train() is None
    assert latest(folder).metadata["versions"]["tensorflow"] == "3.0"
    said.clear()
    make_run(folder, 7, said)
    assert said == [f"resuming at step 7 from {folder / 'checkpoint-7.npz'}"]


@pytest.mark.parametrize("line", [b"[" * 100_000, b"\xff\xfe", b"3", b'{"step": "5"}'])
def test_a_broken_line_of_the_metrics_is_refused(folder, line):
    path = folder / "metrics.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(RebarError, match=r"metrics\.jsonl, line 1 is not a record"):
        make_run(folder)


def test_metrics_keep_their_bytes(folder):
    """Spaces too, e.g. after a hand had been in the file."""
    path = folder / "metrics.jsonl"
    own = b'{"step": 2,  "elbo": -1.50}\n'
    path.write_bytes(own + path.read_bytes() + b'{"step": 9}\n{"st')
    make_run(folder)._lock.close()
    assert path.read_bytes().startswith(own)
    assert len(path.read_bytes().splitlines()) == 2


def test_another_run_is_refused_by_name(folder):
    with pytest.raises(RebarError, match=r"is of another run: seed: saved 0, now 1\. Give the old"):
        make_run(folder, seed=1)
