"""Findings on frozen models in docs/results.md and the README, checked with the records."""

import pytest

from benchmarks.results import page, records
from tests.docs.findings import bullets, plain

BINARY = ("linear", "nonlinear", "gaussian")
ANTITHETIC_AND_RODEO = {"RODEO", "RODEO(rodeo_hidden=100,n_samples=2)", "DisARM"}
REBARS = {"DynamicREBAR", "RELAX", "REBAR", "REBAR(temperature=0.1)"}
STRAIGHT_THROUGH = {
    *("ST", "DecoupledST", "GST", "ReDGE", "ReinDGE", "ST-GS", "GumbelRao", "ZGR"),
    *("ReinMax", "ReinMax(temperature=1)", "ReinMaxRao", "ReinMaxCV", "ReinMaxRK2"),
}


def of(model, objective="elbo"):
    """Label -> record of a table."""
    return {r["estimator"]: r for r in records.read("frozen", model) if r["objective"] == objective}


def unbiased(model, objective="elbo"):
    return {label: r for label, r in of(model, objective).items() if r["unbiased"]}


def variance(record, point=-1):
    return record["points"][point]["variance"]


def per_time(record):
    return variance(record) * record["milliseconds"]


def per_evaluation(record):
    return variance(record) * record["evaluations"]


def order(rows, key=variance):
    """Labels, the smallest first."""
    return sorted(rows, key=lambda label: key(rows[label]))


def cheap(model):
    """Unbiased estimators of at most two evaluations."""
    return {label: r for label, r in unbiased(model).items() if r["evaluations"] <= 2}


@pytest.mark.parametrize("model", ["8x4", "8x16"])
def test_straight_through_estimators_are_the_biased_ones_but_gumbel(model):
    biased = {label for label, r in of(model).items() if not r["unbiased"]}
    assert biased == STRAIGHT_THROUGH | {"Gumbel"}


def rebars_are_first():
    return all(set(order(cheap(model))[:4]) == REBARS for model in BINARY)


def rodeo_and_disarm_are_next():
    return all(set(order(cheap(model))[4:7]) == ANTITHETIC_AND_RODEO for model in BINARY)


def arms_is_better_than_loo():
    pairs = [(of(m)["ARMS(n_antithetic=4)"], of(m)["LOO(n_samples=4)"]) for m in BINARY]
    return all(variance(a, i) < variance(b, i) for a, b in pairs for i in range(3))


def leg_is_smallest():
    """By far: less than a tenth of the next."""
    for model in BINARY:
        rows = unbiased(model)
        first, second = order(rows)[:2]
        if first != "LEG" or variance(rows[first]) > 0.1 * variance(rows[second]):
            return False
    return True


def leg_is_smallest_at_equal_time_if_linear():
    return all(order(unbiased(model), per_time)[0] == "LEG" for model in ("linear", "gaussian"))


def leg_is_not_better_than_disarm_if_nonlinear():
    rows = of("nonlinear")
    return per_time(rows["LEG"]) >= 0.95 * per_time(rows["DisARM"])


def ugc_is_near_disarm():
    return all(
        0.94 < variance(of(model)[label], i) / variance(of(model)["DisARM"], i) < 1.01
        for model in BINARY
        for label in ("UGC", "tUGC")
        for i in range(3)
    )


def double_cv_to_loo(point):
    return [variance(of(m)["DoubleCV"], point) / variance(of(m)["LOO"], point) for m in BINARY]


def gumbel_is_smallest():
    return all(
        variance(of(model)["Gumbel"], i) < min(variance(r, i) for r in cheap(model).values())
        for model in BINARY
        for i in range(3)
    )


def gumbel_mse():
    """Relative to the smallest variance of unbiased estimators of its cost."""
    errors = [of(model)["Gumbel"]["points"][-1]["mse"] for model in BINARY]
    best = [min(map(variance, cheap(model).values())) for model in BINARY]
    return [error / other for error, other in zip(errors, best, strict=True)]


def relative_bias(model, label):
    return of(model)[label]["points"][-1]["relative_bias"]


def local_disarm_and_arms_are_first():
    wanted = {"LocalDisARM", "ARMS(multi_sample=true,n_samples=4)"}
    return all(set(order(unbiased(m, "bound"), per_evaluation)[:2]) == wanted for m in BINARY)


def vimco_and_ovis_hardly_differ():
    rows = [of(model, "bound") for model in BINARY]
    return all(
        abs(variance(r["VIMCO"], i) / variance(r["OVIS"], i) - 1) < 0.03
        for r in rows
        for i in range(3)
    )


def mse_is_below_straight_through(label, points):
    rows = of("8x4")

    def mse(name, i):
        return rows[name]["points"][i]["mse"]

    return [mse(label, i) < min(mse(name, i) for name in STRAIGHT_THROUGH) for i in points]


def reinmax_against_st():
    rows = of("8x4")
    less = relative_bias("8x4", "ReinMax") < relative_bias("8x4", "ST")
    return less and 3 < variance(rows["ReinMax"]) / variance(rows["ST"]) < 8


def straight_through_is_ahead(point):
    """At 8x16."""
    rows = of("8x16")
    few = [r for r in rows.values() if r["unbiased"] and r["evaluations"] <= 4]
    errors = [rows[name]["points"][point]["mse"] for name in STRAIGHT_THROUGH]
    return max(errors) < min(variance(r, point) for r in few)


def rows_in_less_than_twice_the_time():
    rows = of("8x4")
    fastest = min(rows[name]["milliseconds"] for name in STRAIGHT_THROUGH)
    return all(rows[n]["milliseconds"] < 2 * fastest for n in ("UNORD", "SumAndSample"))


RESULTS = {
    "DynamicREBAR, RELAX and REBAR have the smallest variance of the unbiased estimators in every "
    "model": rebars_are_first,
    "RODEO and DisARM are next, before LOO": rodeo_and_disarm_are_next,
    "ARMS with four samples has less variance than LOO with four": arms_is_better_than_loo,
    "LEG has by far the smallest": leg_is_smallest,
    "at equal time it is the best unbiased estimator of the two linear models": (
        leg_is_smallest_at_equal_time_if_linear
    ),
    "no better than DisARM in the nonlinear one": leg_is_not_better_than_disarm_if_nonlinear,
    "UGC and tUGC have nearly the variance of DisARM": ugc_is_near_disarm,
    "25 to 94 % below LOO at the first number of epochs": lambda: (
        [round(100 - 100 * f(double_cv_to_loo(0))) for f in (max, min)] == [25, 94]
    ),
    "5 to 14 % at the last": lambda: all(0.86 < ratio < 0.95 for ratio in double_cv_to_loo(-1)),
    "less variance than any unbiased estimator with up to two evaluations": gumbel_is_smallest,
    "Its bias is 0.67, 0.46 and 0.33 of the gradient in the three binary models": lambda: (
        [round(relative_bias(m, "Gumbel"), 2) for m in BINARY] == [0.67, 0.46, 0.33]
    ),
    "The mean squared error of a single estimate is 0.14 to 0.21": lambda: (
        [round(f(gumbel_mse()), 2) for f in (min, max)] == [0.14, 0.21]
    ),
    "LocalDisARM and ARMS have the smallest variance": local_disarm_and_arms_are_first,
    "VIMCO and OVIS differ by less than 3 %": vimco_and_ovis_hardly_differ,
    "UNORD with three codes and SumAndSample have the smallest variance at equal time": lambda: (
        set(order(of("8x4"), per_time)[:2]) == {"UNORD", "SumAndSample"}
    ),
    "CARMS with three samples has less than LOO at equal evaluations": lambda: (
        per_evaluation(of("8x4")["CARMS"])
        < min(per_evaluation(of("8x4")[n]) for n in ("LOO", "LOO(n_samples=4)"))
    ),
    "Their mean squared error is below that of every straight-through estimator at all three "
    "numbers of epochs, except for CARMS after the first one": lambda: (
        all(mse_is_below_straight_through("UNORD", (0, 1, 2)))
        and all(mse_is_below_straight_through("SumAndSample", (0, 1, 2)))
        and mse_is_below_straight_through("CARMS", (0, 1, 2)) == [False, True, True]
    ),
    "ReinMax has less bias than ST, and several times its variance": reinmax_against_st,
    "The bias of straight-through estimators is 0.83 to 1.21 of the gradient": lambda: (
        [round(f(relative_bias("8x4", n) for n in STRAIGHT_THROUGH), 2) for f in (min, max)]
        == [0.83, 1.21]
    ),
    "every straight-through estimator has a smaller mean squared error than all unbiased ones with "
    "up to four evaluations, at all three numbers of epochs": lambda: all(
        map(straight_through_is_ahead, range(3))
    ),
    "IndeCateR, with 113 evaluations, has the smallest of all after 20 epochs": lambda: (
        variance(of("8x16")["IndeCateR"])
        < min(r["points"][-1]["mse"] for r in of("8x16").values() if not r["unbiased"])
        and of("8x16")["IndeCateR"]["evaluations"] == 113
        and order(unbiased("8x16"))[0] == "IndeCateR"
    ),
    "RELAX and DynamicREBAR have the smallest variance at equal evaluations": lambda: (
        order(unbiased("8x16"), per_evaluation)[:2] == ["RELAX", "DynamicREBAR"]
    ),
    "The bias of ReinMax is 0.16 of the gradient at temperature 1 and 0.44 at the 1.5": lambda: (
        [round(relative_bias("8x16", n), 2) for n in ("ReinMax(temperature=1)", "ReinMax")]
        == [0.16, 0.44]
    ),
}

README = {
    "DynamicREBAR, RELAX and REBAR have the smallest variance of the unbiased estimators with two "
    "evaluations": rebars_are_first,
    "RODEO and DisARM are next": rodeo_and_disarm_are_next,
    "LEG has by far the smallest": leg_is_smallest,
    "at equal time the smallest if the decoder is linear": leg_is_smallest_at_equal_time_if_linear,
    "Gumbel is biased there, by 0.33 to 0.67 of the gradient": lambda: (
        [round(f(relative_bias(m, "Gumbel") for m in BINARY), 2) for f in (min, max)]
        == [0.33, 0.67]
    ),
    "a single estimate has a smaller mean squared error than all unbiased ones with two "
    "evaluations": lambda: max(gumbel_mse()) < 1,
    "UNORD and SumAndSample have a smaller mean squared error than every straight-through "
    "estimator": lambda: (
        mse_is_below_straight_through("UNORD", [-1])[0]
        and mse_is_below_straight_through("SumAndSample", [-1])[0]
    ),
    "With 16 variables, every straight-through estimator is ahead of all unbiased ones": lambda: (
        straight_through_is_ahead(-1)
    ),
    "in less than twice the time": rows_in_less_than_twice_the_time,
}

FINDINGS = [(page.PAGE, *item) for item in RESULTS.items()]
FINDINGS += [(records.ROOT / "README.md", *item) for item in README.items()]


@pytest.mark.parametrize(("path", "text", "holds"), FINDINGS, ids=[text for _, text, _ in FINDINGS])
def test_a_finding_is_in_the_records(path, text, holds):
    assert text in plain(path.read_text()), "a finding was reworded: check it here"
    assert holds()


def test_each_paragraph_of_findings_is_checked():
    for bullet in bullets("### What they show", "\n!["):
        assert any(finding in bullet for finding in RESULTS), bullet
