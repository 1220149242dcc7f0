"""docs/reproduce.md: its tables of presets are the program's."""

import re
from pathlib import Path

import pytest

from rebar.hparams import HParams
from rebar.hparams.presets import PRESETS, preset

TEXT = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text()
ESTIMATORS = re.findall(r"`(\w+)`", re.search(r"^\| size \|.*$", TEXT, re.MULTILINE)[0])
OPTIMIZERS = {"A": "adam", "R": "radam"}
ROWS = dict(re.findall(r"^\| (\d+x\d+) \| (\de-4 .*) \|$", TEXT, re.MULTILINE))


@pytest.mark.parametrize("size", ROWS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_table_of_categorical_presets(size, estimator):
    cell = ROWS[size].split(" | ")[ESTIMATORS.index(estimator)]
    learning_rate, temperature, optimizer, *_ = cell.split()
    hparams = HParams.parse(preset(f"cat_{size}_{estimator}"))
    assert f"{hparams.n_categories}x{hparams.n_latents}" == size
    assert hparams.learning_rate == pytest.approx(float(learning_rate))
    assert hparams.temperature == float(temperature)
    assert hparams.optimizer == OPTIMIZERS[optimizer]


def test_every_preset_is_in_a_table():
    described = {f"cat_{size}_{estimator}" for size in ROWS for estimator in ESTIMATORS}
    described |= set(re.findall(r"`(disarm_\w+)`", TEXT))
    described |= set(re.findall(r"--preset=(doublecv_\w+)", TEXT))
    assert set(PRESETS) == described


def test_the_settings_of_the_disarm_presets():
    text = re.search(r"All presets share\n`(.*?),`\n`(.*?)`", TEXT).groups()
    for name in (name for name in PRESETS if name.startswith("disarm")):
        assert set(",".join(text).split(",")) <= set(preset(name).split(","))
