"""The paper's figures: the numbers behind them, each study once in small, and once by its command."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cleft.core.errors import CleftError
from cleft.losses.pixelwise import CELoss
from cleft.losses.youden import JCLoss
from cleft.reproduce import fig2_fig3, fig4, fig5
from cleft.reproduce.fig2_fig3 import MEASURES, expected_counts, measure

Says = Callable[..., Any]
Optimum = tuple[nn.Module, dict[str, Tensor]]
PNG = b"\x89PNG\r\n\x1a\n"


def numbers_of(picture: Path) -> dict[str, Any]:
    """The numbers beside a picture, which must be one."""
    assert picture.read_bytes().startswith(PNG)
    return json.loads(picture.with_suffix(".json").read_text())


# --- fig. 2 and 3 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pi", [0.01, 0.2, 0.5])
def test_measures_of_blind_classifiers_are_what_algebra_says(pi: float) -> None:
    c1 = {name: float(measure(name, expected_counts(pi, pi))) for name in MEASURES}
    c3 = {name: float(measure(name, expected_counts(pi, 0.5))) for name in MEASURES}
    for found in (c1, c3):
        assert found["Youden's J"] == pytest.approx(0, abs=1e-12)
        assert found["MCC"] == pytest.approx(0, abs=1e-12)
    assert c1["Accuracy"] == pytest.approx(pi**2 + (1 - pi) ** 2)
    assert c1["F1 (Dice)"] == pytest.approx(pi)
    assert c1["Tversky"] == pytest.approx(pi)
    assert c1["Jaccard"] == pytest.approx(pi / (2 - pi))
    assert c3["Accuracy"] == pytest.approx(0.5)
    assert c3["F1 (Dice)"] == pytest.approx(2 * pi / (2 * pi + 1))
    assert c3["Jaccard"] == pytest.approx(pi / (1 + pi))
    assert c3["Tversky"] == pytest.approx(pi / (pi + 0.3 * (1 - pi) + 0.7 * pi))


def test_measures_are_those_of_the_samples_themselves() -> None:
    counts = [np.array(n) for n in (6, 2, 3, 9)]  # tp, fp, fn, tn
    found = {name: float(measure(name, counts)) for name in MEASURES}
    truth, said = np.repeat([1, 0, 1, 0], [6, 2, 3, 9]), np.repeat([1, 1, 0, 0], [6, 2, 3, 9])
    assert found["MCC"] == pytest.approx(np.corrcoef(truth, said)[0, 1])
    assert found["Youden's J"] == pytest.approx(said[truth == 1].mean() - said[truth == 0].mean())
    assert found["Accuracy"] == pytest.approx((truth == said).mean())
    assert found["Jaccard"] == pytest.approx((truth & said).sum() / (truth | said).sum())
    assert found["F1 (Dice)"] == pytest.approx(2 * found["Jaccard"] / (1 + found["Jaccard"]))


def test_only_j_and_mcc_are_flat_for_both_classifiers(tmp_path: Path) -> None:
    found = numbers_of(fig2_fig3.make_fig2(tmp_path, samples=4000, draws=200))
    flat = found["range over the imbalances"]
    for name in MEASURES:
        widest = max(flat["C1"][name], flat["C3"][name])
        assert widest < 0.03 if name in ("Youden's J", "MCC") else widest > 0.3
    assert flat["C3"]["Accuracy"] < 0.01  # 0.5 whatever the imbalance, which the paper doesn't say
    for classifier in ("C1", "C3"):
        for name in MEASURES:
            curve = found[classifier][name]
            error = (
                5 * np.array(curve["standard deviation"]) / np.sqrt(200) + 0.003
            )  # J's and F1's small bias
            assert (np.abs(np.subtract(curve["mean"], curve["expected"])) < error).all()


def test_j_and_mcc_correlate_the_less_the_rarer_the_positives(tmp_path: Path) -> None:
    found = numbers_of(fig2_fig3.make_fig3(tmp_path, draws=2000))
    rare, some, half = (
        found[f"C3, imbalance {pi}, by samples a draw"] for pi in fig2_fig3.PAPER_CORRELATIONS
    )
    shown = str(fig2_fig3.SAMPLES_SHOWN)
    assert rare[shown]["0"] == pytest.approx(0.92, abs=0.02)
    assert some[shown]["0"] == pytest.approx(0.99, abs=0.011)
    assert half[shown]["0"] == pytest.approx(1, abs=0.001)
    assert all(0.94 < row["left out"] <= 1 for row in rare.values())  # so 0.92 needs draws without a positive
    assert rare["10000"]["0"] > 0.99
    assert rare["100"]["without a positive"] == pytest.approx(0.99**100, abs=0.04)


def test_at_half_and_half_with_as_many_of_both_j_is_mcc() -> None:
    tp = np.arange(1, 50)
    balanced = [tp, 50 - tp, 50 - tp, tp]  # as many said as are positive: then J and MCC are one
    j, mcc = fig2_fig3.j_and_mcc(balanced, "left out")
    np.testing.assert_allclose(j, mcc, atol=1e-12)


# --- fig. 4 -----------------------------------------------------------------------------------------------


def test_the_notch_is_one_pixel_wide_and_half_a_side_deep() -> None:
    scene = fig4.TwoSquares(12)
    notch = scene.wrap & (scene.labels == 0)
    rows, columns = np.nonzero(notch)
    assert len(set(columns)) == 1
    assert len(rows) == 6
    assert set(np.unique(scene.classes)) == {0, 1, 2}
    assert (scene.classes[notch] == 0).all()


@pytest.mark.parametrize("assumption", fig4.ASSUMPTIONS)
def test_predictions_are_probabilities_that_end_at_the_truth(assumption: str) -> None:
    scene = fig4.TwoSquares(8)
    truth = torch.from_numpy(scene.classes).long()[None, None]
    right = []
    for iteration in (1, 20, 46, 60, 80):
        z = fig4.prediction(scene, iteration, 80, 46, assumption)
        torch.testing.assert_close(z.sum(1), torch.ones_like(z[:, 0]))
        right.append(z.gather(1, truth).mean().item())
    assert right == sorted(right)
    assert z.gather(1, truth).min() > 0.99
    wrapped = fig4.prediction(scene, 46, 80, 46, assumption)[0].argmax(0).numpy()
    np.testing.assert_array_equal(wrapped == 1, scene.wrap)


def test_cross_entropy_leads_and_j_takes_over_once(tmp_path: Path) -> None:
    found = numbers_of(fig4.make_fig4(tmp_path))
    for assumption in fig4.ASSUMPTIONS:
        curves = {name: np.array(values) for name, values in found[assumption].items()}
        ratio = 0.05 * curves["J by logits"] / curves["CE by logits"]
        assert ratio[0] < 1 < ratio[-1]
        changes = found["the longer gradient changes at, by lambda"][assumption]["logits"]
        assert len(changes["0.05"]) == 1
        assert changes["0.05"][0] == np.flatnonzero(ratio > 1)[0] + 1
        assert ratio[45] > 1.2  # when the mask wraps the squares J leads already
        assert changes["0.5"] == changes["1"] == [1]  # from the start, which the paper doesn't show
        assert (np.diff(curves["J"]) < 0).all()
        assert curves["CE by logits"][-1] < 0.01 * curves["CE by logits"][0]
        assert curves["CE by probabilities"][-1] > 0.2 * curves["CE by probabilities"][0]  # doesn't vanish


def test_gradients_by_logits_are_the_chain_rule_s() -> None:
    scene = fig4.TwoSquares(4)
    found = fig4.simulate(scene, 5, 3)
    truth = torch.from_numpy(scene.classes).long()
    for i in range(5):
        z = fig4.prediction(scene, i + 1, 5, 3)[0]
        one_hot = torch.nn.functional.one_hot(truth, 3).movedim(-1, 0)
        assert found["CE by logits"][i] == pytest.approx(((z - one_hot) / truth.numel()).norm().item())
        by_z = (one_hot / z / truth.numel()).norm().item()
        assert found["CE by probabilities"][i] == pytest.approx(by_z)


# --- fig. 5 -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def optimum() -> Optimum:
    data = fig5.synthetic_batch(48, 1, 0)
    return fig5.train_to_optimum(data, 150, 0), data


def test_the_optimum_is_one_of_every_loss(optimum: Optimum) -> None:
    here = fig5.losses_at(*optimum)
    assert (here < 0.15).all()
    assert here[fig5.LOSSES.index("CE")] < 0.02
    ways = [fig5.random_direction(optimum[0], seed) for seed in range(3)]
    for way in ways:
        assert (fig5.losses_at(*optimum, [(0.2, way)]) > here).all()


def test_losses_are_taken_where_the_weights_are_and_leave_them(optimum: Optimum) -> None:
    net, data = optimum
    before = {name: value.clone() for name, value in net.state_dict().items()}
    way = fig5.random_direction(net, 1)
    here, there = fig5.losses_at(net, data), fig5.losses_at(net, data, [(0.1, way)])
    assert fig5.losses_at(net, data, [(0.3, way), (-0.2, way)]) == pytest.approx(there, rel=1e-3)
    assert not np.allclose(here, there)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        for parameter, step in zip(moved.parameters(), way, strict=True):
            parameter += 0.1 * step
        logits = moved(data["image"])
    assert there[0] == pytest.approx(CELoss()(logits, data["classes"]).item())
    assert there[1] == pytest.approx(CELoss()(logits, data["classes"], data["bwm"]).item())
    assert there[-1] == pytest.approx(JCLoss(1.0)(logits, data["classes"]).item())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_directions_are_as_long_as_the_filters_and_leave_the_rest(optimum: Optimum) -> None:
    net, _ = optimum
    for (name, own), way in zip(net.named_parameters(), fig5.random_direction(net, 0), strict=True):
        if own.ndim == 1:
            assert not way.any(), name
        else:
            torch.testing.assert_close(way.flatten(1).norm(dim=1), own.flatten(1).norm(dim=1).detach())


def test_shares_and_exponents_forget_the_scale() -> None:
    distance = np.array(fig5.RADII)[:, None, None] * np.ones((1, 4, len(fig5.LOSSES)))
    one, ten = (fig5.steepness(np.zeros(6), scale * distance**2)["W3"] for scale in (1, 10))
    assert ten["slope near"][0] == pytest.approx(10 * one["slope near"][0], rel=1e-3)
    assert ten["near of rim"] == one["near of rim"] == pytest.approx(0.04)
    assert ten["exponent"] == one["exponent"] == 2


def test_fig5_in_small(tmp_path: Path) -> None:
    found = numbers_of(fig5.make_fig5(tmp_path, steps=150, edge=48, grid=5, n_directions=2))
    rises = {name: np.array(of["rise"]) for name, of in found["losses"].items()}
    assert set(rises) == set(fig5.LOSSES)
    j = rises["JC 1"] - rises["CE"]
    np.testing.assert_allclose(rises["JC 0.5"] - rises["CE"], j / 2, rtol=0.01, atol=1e-4)
    assert (np.diff(rises["JC 0.5"]) > 0).all()
    shape = {name: of["near of rim"] for name, of in found["losses"].items()}
    assert shape["CE"] < shape["JC 0.05"] < shape["JC 0.5"] < shape["JC 1"]  # J makes it more of a cone


# --- the commands -----------------------------------------------------------------------------------------


def test_a_command_says_where_it_wrote_and_how_long_it_took(cleft_says: Says, tmp_path: Path) -> None:
    said = cleft_says("paper", "fig4", "-o", tmp_path / "new")
    assert said.code == 0
    assert said.out.startswith(f"{tmp_path / 'new' / 'fig4.png'} and fig4.json: ")
    assert said.out.endswith(" s\n")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["fig4.json", "fig4.png"]


def test_only_what_cleft_paper_wrote_is_replaced(cleft_says: Says, tmp_path: Path) -> None:
    assert cleft_says("paper", "fig2", "-o", tmp_path).code == 0
    assert cleft_says("paper", "fig2", "-o", tmp_path).code == 0
    for name in ("fig2.json", "fig2.png"):
        own = (tmp_path / name).read_bytes()
        (tmp_path / name).write_text("mine")
        said = cleft_says("paper", "fig2", "-o", tmp_path)
        assert said.code == 1
        assert f"{name}: exists already, and cleft paper didn't write it" in said.err
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).write_bytes(own)
    (tmp_path / "fig2.json").write_text("mine")
    assert cleft_says("paper", "fig2", "-o", tmp_path, "--overwrite").code == 0
    assert numbers_of(tmp_path / "fig2.png")


def test_a_table_that_somebody_else_wrote_stays(cleft_says: Says, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table2.md").write_text("mine")
    said = cleft_says("paper", "table2", tmp_path / "set", "-o", tmp_path / "out")
    assert (said.code, "table2.md: exists already" in said.err) == (1, True)
    said = cleft_says("paper", "table2", tmp_path / "set", "-o", tmp_path / "set" / "train")
    assert (said.code, "which is read" in said.err) == (1, True)
    assert (tmp_path / "out" / "table2.md").read_text() == "mine"


def test_a_seed_fixes_the_numbers(tmp_path: Path) -> None:
    first, again, other = (
        fig2_fig3.make_fig3(tmp_path / folder, seed, draws=50).with_suffix(".json").read_text()
        for folder, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again != other


def test_without_matplotlib_it_says_what_to_install(
    cleft_says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(CleftError, match=r"pip install 'cleft\[paper\]'"):
        fig5.make_fig5(tmp_path)  # before it trains
    said = cleft_says("paper", "fig2", "-o", tmp_path)
    assert said.code == 1
    assert "cleft[paper]" in said.err
    assert not list(tmp_path.iterdir())
