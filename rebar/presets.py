"""Presets: the settings of a published protocol by name, for the train command's --preset.

A preset is an --hparams string that is read before those that the user gives, so any of its values
can be overridden:

    python rebar_train.py --preset=disarm_nonlinear --hparams="model=SBNDisARM,task=omni"
    HParams.parse(rebar.preset("disarm_nonlinear"), "model=SBNDisARM,task=omni")

disarm_*: Dong, Mnih & Tucker 2020 (arXiv 2006.10680), for sbn, fashion and omni. What their text
does not say (initial weights, beta2, the rate of RELAX's control variate) is as in their code. How
far this goes: docs/reproduce.md.
"""

from rebar.errors import RebarError

_DISARM = (
    "batch_size=50,dynamic_b=true,n_hidden=200,initializer=glorot,learning_rate=0.0001,beta2=0.999,"
    "learning_rate_prior=0.01,prior_optimizer=sgd,learning_rate_control=0.0001,temperature=0.1"
)

PRESETS = {
    "disarm_linear": f"{_DISARM},n_layer=1,nonlinear=false",
    "disarm_nonlinear": f"{_DISARM},n_layer=1,nonlinear=true,activation=leaky_relu",
    "disarm_linear2": f"{_DISARM},n_layer=2,nonlinear=false",
    "disarm_linear3": f"{_DISARM},n_layer=3,nonlinear=false",
    "disarm_linear4": f"{_DISARM},n_layer=4,nonlinear=false",
}
"""Name -> --hparams string."""


def preset(name: str) -> str:
    """The --hparams string behind a name. Raises RebarError for an unknown one."""
    if name not in PRESETS:
        raise RebarError(f"unknown preset {name!r}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]
