"""The losses JC is compared with are what they are called, and all keep the laws that JC keeps."""

from pathlib import Path
from typing import Any, get_args

import monai.losses
import pytest
import torch
from torch import Tensor, nn

from cleft.api import train
from cleft.core.errors import DataError
from cleft.core.settings import LOSSES, LossName, LossSettings
from cleft.labels.weights import WEIGHT_MAPS
from cleft.losses import named
from cleft.losses.named import MergedGapLoss, make_loss
from cleft.losses.pixelwise import BalancedCELoss, CELoss, FocalLoss, SensitivitySpecificityLoss
from cleft.losses.region import (
    BoundaryLoss,
    DiceLoss,
    DSCLoss,
    GeneralisedDiceLoss,
    LovaszLoss,
    MCCLoss,
    TverskyLoss,
)
from cleft.losses.youden import JCLoss, JLoss
from cleft.synthetic import make_cells
from cleft.training import fit
from references import losses
from references import named_losses as reference
from test_losses import SHAPES, batch, certain

EVERY: dict[str, nn.Module] = {
    "jc": JCLoss(0.7), "j": JLoss(0.7), "j of images": JLoss(0.7, reduction="image"), "ce": CELoss(),
    "wce": BalancedCELoss(), "dsc": DSCLoss(), "dice": DiceLoss(), "gdl": GeneralisedDiceLoss(),
    "tversky": TverskyLoss(), "focal": FocalLoss(), "lovasz": LovaszLoss(), "mcc": MCCLoss(),
    "sens-spec": SensitivitySpecificityLoss(), "boundary": BoundaryLoss(0.1),
}  # fmt: skip
SIGNED = {"boundary"}  # below 0 for a good prediction
every = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])


def weights(classes: Tensor, seed: int = 0) -> Tensor:
    """Whole numbers from 0 to 3."""
    return torch.randint(0, 4, classes.shape, generator=torch.Generator().manual_seed(seed)).double()


# what all keep


@shapes
@pytest.mark.parametrize("n_classes", [2, 3, 4, pytest.param(7, marks=pytest.mark.long)])
@every
def test_gradients_are_those_of_the_value(loss: nn.Module, n_classes: int, shape: tuple[int, ...]) -> None:
    logits, classes = batch(n_classes, shape)
    assert (classes == 255).any()
    logits.requires_grad_()
    weight = 0.3 + weights(classes)
    assert torch.autograd.gradcheck(lambda z: loss(z, classes), logits)
    assert torch.autograd.gradcheck(lambda z: loss(z, classes, weight), logits)


@pytest.mark.parametrize("by", [50.0, torch.inf, torch.nan])
@pytest.mark.parametrize("weighted", [False, True], ids=["255", "weight 0"])
@every
def test_ignored_pixels_change_nothing_and_get_no_gradient(
    loss: nn.Module, ndim: int, by: float, weighted: bool
) -> None:
    logits, classes = batch(3, (4,) * ndim, dtype=torch.float32)
    away = (classes == 255)[:, None].expand_as(logits)
    weight = None
    if weighted:
        weight = (classes != 255).float()
        classes = torch.where(classes == 255, 1, classes)
    value = loss(logits, classes, weight)
    other = torch.where(away, torch.full_like(logits, by), logits).requires_grad_()
    assert loss(other, classes, weight).item() == value.item()
    (gradient,) = torch.autograd.grad(loss(other, classes, weight), other)
    assert not gradient[away].any()
    assert gradient[~away].any()
    assert torch.isfinite(gradient).all()


@every
def test_weight_0_is_ignored(loss: nn.Module, ndim: int) -> None:
    logits, classes = batch(4, (4,) * ndim)
    weight = torch.where(weights(classes) > 0, 1.0, 0.0)
    ignored = torch.where(weight == 0, 255, classes)
    torch.testing.assert_close(loss(logits, classes, weight), loss(logits, ignored))


@every
def test_an_image_of_weight_2_counts_as_two_images(loss: nn.Module, ndim: int) -> None:
    logits, classes = batch(3, (4,) * ndim)
    weight = torch.ones_like(classes, dtype=torch.float64)
    weight[1] = 2
    order = [0, 1, 1]
    if isinstance(loss, JLoss) and loss.reduction == "image":
        order = [0, 1]  # each image counts as one, whatever its pixels
    torch.testing.assert_close(loss(logits, classes, weight), loss(logits[order], classes[order]))


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"boundary", "j of images"}))
def test_a_pixel_of_weight_2_counts_as_two_pixels(name: str) -> None:
    """Not those that look at a pixel's place or at its image."""
    logits, classes = batch(4, (40,))
    weight = weights(classes)
    times = weight.reshape(-1).long()
    line = logits.transpose(0, 1).flatten(1)
    repeated = line.repeat_interleave(times, 1)[None], classes.reshape(-1).repeat_interleave(times)[None]
    torch.testing.assert_close(EVERY[name](logits, classes, weight), EVERY[name](*repeated))


@every
def test_weights_of_any_type(loss: nn.Module) -> None:
    logits, classes = batch(3, (5, 5), dtype=torch.float32)
    weight = weights(classes)
    expected = loss(logits, classes, weight)
    for dtype in (torch.uint8, torch.float32, torch.float16):
        torch.testing.assert_close(loss(logits, classes, weight.to(dtype)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["perfect", "hopeless", "one class", "nothing known", "empty"])
@pytest.mark.parametrize("name", EVERY)
def test_always_finite(name: str, dtype: torch.dtype, case: str) -> None:
    truth = torch.arange(4).repeat(2, 3)
    made = {"perfect": certain(truth, 4, 1e4), "hopeless": certain((truth + 1) % 4, 4, 1e4)}
    logits = made.get(case, torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0)))
    marks = {"one class": torch.ones_like(truth), "nothing known": torch.full_like(truth, 255)}
    truth = marks.get(case, truth)
    if case == "empty":
        logits, truth = logits[:0], truth[:0]
    logits = logits.to(dtype).requires_grad_()
    value = EVERY[name](logits, truth)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    if case in ("nothing known", "empty"):
        assert value.item() == 0
        assert not logits.grad.any()
    if case == "perfect" and name not in SIGNED:
        assert value.item() == pytest.approx(0, abs=1e-6)
    if case == "hopeless":
        assert value.item() > EVERY[name](made["perfect"], truth).item() + 0.3


@every
def test_one_pixel(loss: nn.Module) -> None:
    for shape in ((), (1,), (1, 1, 1)):
        logits = torch.tensor([0.5, -0.5, 0.0, 0.2]).reshape(1, 4, *(1 for _ in shape)).requires_grad_()
        loss(logits, torch.full((1, *shape), 2)).backward()
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
@pytest.mark.parametrize("name", EVERY)
def test_better_predictions_score_lower(name: str, n_classes: int, ndim: int) -> None:
    _, classes = batch(n_classes, (6,) * ndim)
    truth = torch.where(classes == 255, 0, classes)
    wrong = certain((truth + 1) % n_classes, n_classes, 1.0)
    right, perfect = certain(truth, n_classes, 1.0), certain(truth, n_classes, 30.0)
    values = [EVERY[name](z, classes).item() for z in (perfect, right, torch.zeros_like(wrong), wrong)]
    assert values == sorted(set(values))
    if name not in SIGNED:
        assert values[0] == pytest.approx(0, abs=1e-4)


@every
def test_float32_inside_under_autocast(loss: nn.Module) -> None:
    logits, classes = batch(4, (64, 64), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, half = loss(logits, classes), loss(logits.bfloat16(), classes)
    assert inside.dtype == half.dtype == torch.float32
    assert inside.item() == loss(logits, classes).item()
    assert half.item() == pytest.approx(loss(logits.bfloat16().float(), classes).item(), rel=1e-5)


@every
def test_values_and_gradients_of_large_batches_stay_exact(loss: nn.Module) -> None:
    """float32 against float64, with one class of a hundred pixels among 320 000."""
    logits, classes = batch(4, (400, 400), dtype=torch.float32)
    classes[classes == 2] = 0
    classes.view(-1)[:100] = 2
    found = []
    for z in (logits, logits.double()):
        z = z.clone().requires_grad_()
        value = loss(z, classes)
        value.backward()
        found.append((value.item(), z.grad.double()))
    (single, slope), (precise, expected) = found
    assert single == pytest.approx(precise, rel=1e-4)
    torch.testing.assert_close(slope, expected, rtol=2e-3, atol=float(expected.abs().max()) * 1e-5)


@every
def test_the_order_of_memory_and_the_type_of_classes_do_not_matter(loss: nn.Module) -> None:
    logits, classes = batch(3, (4, 6), dtype=torch.float32)
    expected = loss(logits, classes)
    last = logits.to(memory_format=torch.channels_last)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        torch.testing.assert_close(loss(last, classes.to(dtype)), expected)
    torch.testing.assert_close(loss(logits.mT, classes.mT, torch.ones(2, 6, 4)), expected)


@pytest.mark.parametrize(
    ("logits", "classes"),
    [((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4, 4), (2, 1, 4, 4)), ((3,), (3,)), ((2, 3), (3,))],
)
@every
def test_wrong_shapes_are_refused(loss: nn.Module, logits: tuple[int, ...], classes: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected \(N, K, \*S\) and \(N, \*S\)") as told:
        loss(torch.zeros(logits), torch.zeros(classes, dtype=torch.long))
    assert str(logits) in str(told.value)
    assert str(classes) in str(told.value)


@every
def test_wrong_weights_and_classes_are_refused(loss: nn.Module) -> None:
    logits, classes = batch(3, (4, 4), dtype=torch.float32)
    with pytest.raises(DataError, match=r"weight is \(2, 4\), expected \(2, 4, 4\) as the classes"):
        loss(logits, classes, torch.ones(2, 4))
    classes[0, 0, 0] = 3
    with pytest.raises(DataError, match="classes: found 3, expected 0 to 2 or ignore_index"):
        loss(logits, classes)


@pytest.mark.parametrize("make", dict.fromkeys(type(loss) for loss in EVERY.values()))
def test_another_number_can_be_ignored(make: Any) -> None:
    logits, classes = batch(4, (4, 4), dtype=torch.float32)
    moved = torch.where(classes == 255, -100, classes)
    assert make(ignore_index=-100)(logits, moved).item() == make()(logits, classes).item()
    found = MergedGapLoss(make(ignore_index=-100), ignore_index=-100)(logits, moved)
    assert found.item() == MergedGapLoss(make())(logits, classes).item()


# what each is


@pytest.mark.parametrize("n_classes", [2, 4])
def test_cross_entropy_is_that_of_torch(ndim: int, n_classes: int) -> None:
    logits, classes = batch(n_classes, (5,) * ndim)
    known = classes[classes != 255]
    share = len(known) / (len(known.unique()) * torch.bincount(known, minlength=n_classes).clamp(min=1))
    for loss, weight in ((CELoss(), None), (BalancedCELoss(), share.double())):
        expected = nn.functional.cross_entropy(logits, classes, weight, ignore_index=255)
        torch.testing.assert_close(loss(logits, classes), expected)
    expected = reference.balanced_cross_entropy(logits, classes)
    torch.testing.assert_close(BalancedCELoss()(logits, classes), expected)


def test_cross_entropy_with_a_map_is_its_weighted_mean(ndim: int) -> None:
    logits, classes = batch(3, (5,) * ndim)
    weight = weights(classes) + 0.1
    each = nn.functional.cross_entropy(logits, classes, ignore_index=255, reduction="none")
    expected = (each * weight).sum() / weight[classes != 255].sum()
    torch.testing.assert_close(CELoss()(logits, classes, weight), expected)


def monai_on_all_pixels(loss: nn.Module, logits: Tensor, classes: Tensor) -> Tensor:
    """MONAI's loss of the full probabilities and one-hot truth, of the annotated pixels as one line."""
    z, h = losses.annotated(logits, classes)
    return loss(z.T[None], nn.functional.one_hot(h, z.shape[1]).to(z).T[None])


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("absent", [False, True])
def test_regions_are_those_of_monai(ndim: int, n_classes: int, absent: bool) -> None:
    """MONAI sees three made pixels here, and all of them there: the same value and gradient."""
    logits, classes = batch(n_classes, (5,) * ndim)
    if absent:
        classes[classes == 1] = 0
    pixels = int((classes != 255).sum())
    scaled = {"smooth_nr": 1e-5 / pixels, "smooth_dr": 1e-5 / pixels}  # that of ours is of shares
    pairs = (
        (DiceLoss(), monai.losses.DiceLoss(batch=True)),
        (TverskyLoss(0.2, 0.9), monai.losses.TverskyLoss(alpha=0.2, beta=0.9, batch=True)),
        (GeneralisedDiceLoss(), monai.losses.GeneralizedDiceLoss(batch=True, **scaled)),
    )
    for ours, theirs in pairs:
        found, wanted = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = ours(found, classes), monai_on_all_pixels(theirs, wanted, classes)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(
            *(torch.autograd.grad(v, z)[0] for v, z in ((value, found), (expected, wanted)))
        )


def test_dice_of_fully_annotated_batches_is_monai_s_as_anyone_calls_it(ndim: int) -> None:
    logits, classes = batch(4, (5,) * ndim, dtype=torch.float32)
    classes[classes == 255] = 0
    theirs = monai.losses.DiceLoss(softmax=True, to_onehot_y=True, batch=True)(logits, classes[:, None])
    torch.testing.assert_close(DiceLoss()(logits, classes), theirs)
    torch.testing.assert_close(DSCLoss()(logits, classes), theirs + CELoss()(logits, classes))
    theirs = monai.losses.DiceCELoss(softmax=True, to_onehot_y=True, batch=True)(logits, classes[:, None])
    torch.testing.assert_close(DSCLoss()(logits, classes), theirs)


def test_tversky_of_halves_is_dice(ndim: int) -> None:
    logits, classes = batch(4, (5,) * ndim)
    torch.testing.assert_close(
        TverskyLoss(0.5, 0.5)(logits, classes), DiceLoss()(logits, classes), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("gamma", [0, 1, 2.0, 3.5])
def test_focal_is_that_of_monai(ndim: int, gamma: float) -> None:
    logits, classes = batch(4, (5,) * ndim, dtype=torch.float32)
    theirs = monai.losses.FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True, reduction="none")
    each = theirs(logits, torch.where(classes == 255, 0, classes)[:, None]).sum(1)
    torch.testing.assert_close(FocalLoss(gamma)(logits, classes), each[classes != 255].mean())
    if gamma == 0:
        torch.testing.assert_close(FocalLoss(gamma)(logits, classes), CELoss()(logits, classes))


@shapes
@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
def test_the_rest_equal_their_definitions(n_classes: int, shape: tuple[int, ...]) -> None:
    for seed in range(3):
        logits, classes = batch(n_classes, shape, seed)
        pairs = (
            (SensitivitySpecificityLoss(0.2), reference.sensitivity_specificity(logits, classes, 0.2)),
            (LovaszLoss(), reference.lovasz(logits, classes)),
            (MCCLoss(), 1 - reference.correlation(logits, classes)),
        )
        for loss, expected in pairs:
            torch.testing.assert_close(loss(logits, classes), expected, rtol=1e-6, atol=1e-9)
        far = BoundaryLoss(0.7)(logits, classes) - GeneralisedDiceLoss()(logits, classes)
        torch.testing.assert_close(far, 0.7 * reference.boundary_term(logits, classes))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_mcc_of_decisions_is_the_correlation_of_pixels(n_classes: int) -> None:
    logits, classes = batch(n_classes, (9, 9))
    decided = logits.argmax(1)
    known = classes != 255
    found = 1 - MCCLoss()(certain(decided, n_classes, 60.0).double(), classes)
    expected = reference.correlation_of_pixels(decided[known], classes[known], n_classes)
    assert found.item() == pytest.approx(expected, abs=1e-9)
    if n_classes == 2:
        pairs = [(decided[known] == a) & (classes[known] == b) for a, b in ((1, 1), (0, 0), (1, 0), (0, 1))]
        tp, tn, fp, fn = (float(p.sum()) for p in pairs)
        usual = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
        assert found.item() == pytest.approx(usual)


def test_mcc_does_without_a_class(ndim: int) -> None:
    logits, classes = batch(4, (5,) * ndim)
    classes[classes == 3] = 0
    logits[:, 3] = -40
    torch.testing.assert_close(MCCLoss()(logits, classes), MCCLoss()(logits[:, :3], classes))
    assert MCCLoss()(logits, torch.zeros_like(classes)).item() == 0


def test_lovasz_of_decisions_is_one_less_the_jaccard_index(ndim: int) -> None:
    logits, classes = batch(3, (5,) * ndim)
    decided, known = logits.argmax(1), classes != 255
    each = []
    for k in range(3):
        a, b = (decided == k) & known, classes == k
        each.append(1 - (a & b).sum() / (a | b).sum())
    found = LovaszLoss()(certain(decided, 3, 60.0), classes)
    assert found.item() == pytest.approx(torch.stack(each).mean().item(), abs=1e-6)


def test_sensitivity_and_specificity_by_hand() -> None:
    """Class 0: own error .04, others' .36; class 1: own .36, others' .04."""
    logits = torch.tensor([[[0.8, 0.6], [0.2, 0.4]]]).log()
    found = SensitivitySpecificityLoss(0.05)(logits, torch.tensor([[0, 1]]))
    assert found.item() == pytest.approx((0.05 * 0.04 + 0.95 * 0.36 + 0.05 * 0.36 + 0.95 * 0.04) / 2)


def test_boundary_scales_with_the_pixel() -> None:
    logits, classes = batch(3, (6, 5))
    plain, region = BoundaryLoss(1.0)(logits, classes), GeneralisedDiceLoss()(logits, classes)
    wide = BoundaryLoss(1.0, spacing=(2.0, 2.0))(logits, classes)
    # all distances double but for the half pixel
    known, z = classes != 255, torch.softmax(logits, 1)
    half = (0.5 * (1 - 2 * z.gather(1, torch.where(known, classes, 0)[:, None])[:, 0]))[known].mean()
    torch.testing.assert_close(wide - region, 2 * (plain - region) + half)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: FocalLoss(0.5), "gamma is 0.5, expected 0 or at least 1"),
        (lambda: SensitivitySpecificityLoss(1.5), "sensitivity is 1.5, expected a number from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense(make: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        make()


# gap decided


@shapes
@pytest.mark.parametrize("name", EVERY)
def test_gap_decided_adds_the_cross_entropy_of_three_classes(name: str, shape: tuple[int, ...]) -> None:
    logits, classes = batch(4, shape)
    decided = torch.where(classes == 3, 0, classes)
    weight, loss = weights(classes), EVERY[name]
    added = losses.cross_entropy(logits[:, :3], decided)
    torch.testing.assert_close(MergedGapLoss(loss, 0.3)(logits, classes), loss(logits, classes) + 0.3 * added)
    found = MergedGapLoss(loss, 0.3)(logits, classes, weight)
    added = CELoss()(logits[:, :3], decided, weight)
    torch.testing.assert_close(found, loss(logits, classes, weight) + 0.3 * added)
    assert torch.autograd.gradcheck(
        lambda z: MergedGapLoss(CELoss(), 0.3)(z, classes, weight), logits.requires_grad_()
    )


def test_gap_decided_of_three_classes_or_without_weight_is_the_loss_itself() -> None:
    three, four = batch(3, (5, 6)), batch(4, (5, 6))
    assert MergedGapLoss(JCLoss())(*three) == JCLoss()(*three)
    assert MergedGapLoss(JCLoss(), 0)(*four) == JCLoss()(*four)


def test_gap_decided_says_what_comes_next_in_a_gap() -> None:
    """The loss of four classes has no opinion between background and touching there; the sum has."""
    gap = torch.tensor([[3]])
    next_background = torch.tensor([[[2.0], [0], [0], [9]]])
    next_touching = torch.tensor([[[0.0], [0], [2], [9]]])
    plain, decided = CELoss(), MergedGapLoss(CELoss())
    assert plain(next_background, gap) == plain(next_touching, gap)
    assert decided(next_background, gap) < decided(next_touching, gap) - 1


# names, and trainings by name


def test_names_agree() -> None:
    assert list(LOSSES) == list(get_args(LossName)) == list(named.YOUDEN | named.OTHERS)
    assert WEIGHT_MAPS.keys() == {"bwm", "w3"}
    assert all(says and "\n" not in says for says in LOSSES.values())


@pytest.mark.parametrize("name", LOSSES)
def test_made_by_name(name: str) -> None:
    logits, classes = batch(4, (6, 6))
    settings = LossSettings(loss=name, j_weight=0.7)
    same = EVERY["ce" if name in WEIGHT_MAPS else name]
    found = make_loss(settings)
    assert type(found) is type(same)
    if name != "boundary":
        assert found(logits, classes) == same(logits, classes)


def test_settings_of_j_reach_it() -> None:
    logits, classes = batch(3, (4, 4))
    lam = ((0.0, 0.1, 0.2), (0.3, 0.0, 0.4), (0.5, 0.6, 0.0))
    for name, make in (("jc", JCLoss), ("j", JLoss)):
        settings = LossSettings(loss=name, j_weight=lam, j_reduction="image", j_pairs=((0, 1), (2, 0)))
        expected = make(lam, reduction="image", pairs=[(0, 1), (2, 0)])(logits, classes)
        assert make_loss(settings)(logits, classes) == expected


TINY: dict[str, Any] = {
    "width": 4,
    "levels": 3,
    "batch_size": 2,
    "steps": 2,
    "validations": 1,
    "patch_size": (32, 32),
}


def trained(name: str, tmp_path: Path, **more: Any) -> Tensor:
    """The weights after a short training."""
    model = train([make_cells((48, 48), 0)], tmp_path / f"{name}.safetensors", loss=name, **(TINY | more))
    assert model.card.training["loss"] == name
    return torch.cat([p.detach().reshape(-1) for p in model.net.parameters()])


def test_every_name_trains(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two steps each, from the same weights and the same patches: no two end at the same weights."""
    ends = {name: trained(name, tmp_path) for name in LOSSES}
    for i, (name, end) in enumerate(ends.items()):
        assert torch.isfinite(end).all(), name
        for other in list(ends)[:i]:
            assert not torch.equal(end, ends[other]), (name, other)


@pytest.mark.long
def test_every_name_trains_in_volumes(tmp_path: Path) -> None:
    """Those with code of their own for the axes."""
    for name in ("bwm", "w3", "boundary"):
        small = TINY | {"loss": name, "patch_size": (8, 16, 16), "steps": 1}
        model = train([make_cells((16, 32, 32), 0)], tmp_path / f"{name}.safetensors", **small)
        assert all(torch.isfinite(p).all() for p in model.net.parameters())


@pytest.mark.parametrize(
    ("schedule", "shares"), [("constant", [1, 1, 1, 1]), ("rising", [0, 0.25, 0.5, 0.75])]
)
def test_the_schedule_of_lambda_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str, shares: list[float]
) -> None:
    seen = []

    class Watched(JCLoss):
        def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
            seen.append(self.strength)
            return super().forward(logits, classes, weight)

    monkeypatch.setattr(fit, "make_loss", lambda settings: Watched(settings.j_weight))
    trained("jc", tmp_path, steps=4, j_weight_schedule=schedule)
    assert seen == shares
