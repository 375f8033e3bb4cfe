"""Losses equal their definitions, their gradients are right, and nothing makes them infinite."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

import cleft
from cleft.base.errors import DataError
from cleft.losses.compare import LOSSES, CELoss, DSCLoss, GapDecided, make_loss
from cleft.losses.statistics import class_sums, flatten
from cleft.losses.youden import BinaryJLoss, JCLoss, JLoss
from references import losses as reference

SHAPES = [(7,), (3, 4), (2, 3, 2)]
EVERY = [JLoss(0.7), JCLoss(0.7), CELoss(), DSCLoss()]
NAMES = ["j", "jc", "ce", "dsc"]


def batch(
    n_classes: int, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Two images of random logits and classes; all classes but where ``shape`` is too small, some ignored."""
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, n_classes, *shape), generator=source, dtype=torch.float64).to(dtype)
    classes = torch.randint(0, n_classes, (2, *shape), generator=source)
    classes[torch.rand(classes.shape, generator=source) < 0.2] = 255
    return logits, classes


@pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_gradients_are_those_of_the_value(loss: nn.Module, n_classes: int, shape: tuple[int, ...]) -> None:
    logits, classes = batch(n_classes, shape)
    assert (classes == 255).any()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, classes), logits)


@pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])
def test_gradients_of_the_binary_form(shape: tuple[int, ...]) -> None:
    logits, classes = batch(2, shape)
    one = logits[:, 0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: BinaryJLoss(0.7)(z, classes), one)


@pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
def test_values_are_those_of_the_definition(n_classes: int, shape: tuple[int, ...]) -> None:
    for seed in range(5):
        logits, classes = batch(n_classes, shape, seed)
        j = reference.j_loss(logits, classes, torch.full((n_classes, n_classes), 0.3))
        ce = reference.cross_entropy(logits, classes)
        torch.testing.assert_close(JLoss(0.3)(logits, classes), j, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(CELoss()(logits, classes), ce)
        torch.testing.assert_close(JCLoss(0.3)(logits, classes), ce + j, atol=1e-7, rtol=1e-6)


def test_absent_classes_take_no_part() -> None:
    logits, classes = batch(4, (3, 4))
    classes[classes == 2] = 0
    assert set(classes.unique().tolist()) == {0, 1, 3, 255}
    expected = reference.j_loss(logits, classes, torch.ones(4, 4))
    torch.testing.assert_close(JLoss(1.0)(logits, classes), expected)
    # the number of a class that is absent carries no weight
    lam = torch.ones(4)
    lam[2] = 1e6
    torch.testing.assert_close(JLoss(lam)(logits, classes), expected)


def test_a_value_by_hand() -> None:
    """m = [[.8, .4], [.2, .6]]: both pairs have J = .4, each -log .7."""
    z = torch.tensor([[[0.9, 0.7, 0.4], [0.1, 0.3, 0.6]]])
    classes = torch.tensor([[0, 0, 1]])
    j, ce = -2 * math.log(0.7), -(math.log(0.9) + math.log(0.7) + math.log(0.6)) / 3
    assert JLoss(0.5)(z.log(), classes).item() == pytest.approx(0.5 * j, abs=1e-6)
    assert CELoss()(z.log(), classes).item() == pytest.approx(ce, abs=1e-6)
    assert JCLoss(0.5)(z.log(), classes).item() == pytest.approx(ce + 0.5 * j, abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
def test_the_gradient_is_a_table_looked_up_by_true_class(n_classes: int) -> None:
    """METHOD 3: the backward pass needs no pairs of classes at the pixels."""
    logits, classes = batch(n_classes, (6, 6))
    assert len(classes.unique()) == n_classes + 1
    lam = torch.rand(n_classes, n_classes, dtype=torch.float64)
    logits.requires_grad_()
    (found,) = torch.autograd.grad(JLoss(lam)(logits, classes), logits)
    expected = reference.j_gradient_by_table(logits.detach(), classes, lam)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", [JLoss, JCLoss])
def test_lambda_is_a_number_a_vector_or_a_matrix(loss: type[JLoss] | type[JCLoss]) -> None:
    logits, classes = batch(3, (6, 6))
    rest = CELoss()(logits, classes) if loss is JCLoss else 0.0
    vector = torch.tensor([0.1, 0.2, 0.9], dtype=torch.float64)
    matrix = torch.tensor([[9.0, 0.1, 0.2], [0.3, 9.0, 0.4], [0.5, 0.6, 9.0]], dtype=torch.float64)
    by_vector = reference.j_loss(logits, classes, vector[:, None].expand(3, 3))
    by_matrix = reference.j_loss(logits, classes, matrix)
    torch.testing.assert_close(loss(vector)(logits, classes), rest + by_vector)
    torch.testing.assert_close(loss([0.1, 0.2, 0.9])(logits, classes), rest + by_vector)
    torch.testing.assert_close(loss(matrix)(logits, classes), rest + by_matrix)
    torch.testing.assert_close(loss(matrix.tolist())(logits, classes), rest + by_matrix)
    torch.testing.assert_close(loss(0.2)(logits, classes), loss([0.2] * 3)(logits, classes))


@pytest.mark.parametrize("lam", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[[1.0]]]])
@pytest.mark.parametrize("loss", [JLoss, JCLoss])
def test_lambda_of_another_size_is_refused(loss: type[nn.Module], lam: list) -> None:
    logits, classes = batch(3, (4,))
    with pytest.raises(DataError, match=r"lam is \(.*\), expected a number, \(3,\) or \(3, 3\)"):
        loss(lam)(logits, classes)


def test_lambda_is_no_weight_of_a_model() -> None:
    """It isn't trained, and not stored where it could clash with a model trained with another."""
    assert not list(JCLoss(0.5).parameters())
    assert not JCLoss(0.5).state_dict()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_cross_entropy_is_that_of_torch(ndim: int, n_classes: int) -> None:
    logits, classes = batch(n_classes, (5,) * ndim)
    expected = nn.functional.cross_entropy(logits, classes, ignore_index=255)
    torch.testing.assert_close(CELoss()(logits, classes), expected)


def test_dice_is_that_of_monai(ndim: int) -> None:
    from monai.losses import DiceLoss

    logits, classes = batch(4, (5,) * ndim, dtype=torch.float32)
    classes[classes == 255] = 0
    expected = DiceLoss(softmax=True, to_onehot_y=True, batch=True)(logits, classes[:, None])
    found = DSCLoss()(logits, classes) - CELoss()(logits, classes)
    torch.testing.assert_close(found, expected)


def test_dice_of_annotated_pixels_is_that_of_the_image_without_the_others() -> None:
    logits, classes = batch(3, (1, 8))
    classes[:, :, 5:] = 255
    classes[:, :, :5] %= 3
    torch.testing.assert_close(DSCLoss()(logits, classes), DSCLoss()(logits[..., :5], classes[..., :5]))


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_ignored_pixels_change_nothing_and_get_no_gradient(loss: nn.Module, ndim: int) -> None:
    logits, classes = batch(3, (4,) * ndim)
    away = (classes == 255)[:, None].expand_as(logits)
    other = torch.where(away, torch.full_like(logits, 50.0), logits)
    assert loss(other, classes).item() == loss(logits, classes).item()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, classes), logits)
    assert not gradient[away].any()
    assert gradient[~away].any()


def test_another_number_can_be_ignored() -> None:
    logits, classes = batch(3, (4, 4))
    for make in (JLoss, JCLoss, CELoss, DSCLoss):
        moved = torch.where(classes == 255, -100, classes)
        assert make(ignore_index=-100)(logits, moved).item() == make()(logits, classes).item()
    two = torch.where(classes == 2, 255, classes)
    moved = torch.where(two == 255, -100, two)
    expected = BinaryJLoss()(logits[:, 0], two).item()
    assert BinaryJLoss(ignore_index=-100)(logits[:, 0], moved).item() == expected


def certain(classes: Tensor, n_classes: int, by: float) -> Tensor:
    """Logits of ``by`` for the true class and 0 for the others."""
    return by * nn.functional.one_hot(classes, n_classes).movedim(-1, 1).float()


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["perfect", "hopeless", "one class", "nothing known", "empty"])
def test_always_finite(loss: nn.Module, dtype: torch.dtype, case: str) -> None:
    truth = torch.arange(4).repeat(2, 3)
    logits = {"perfect": certain(truth, 4, 1e4), "hopeless": certain((truth + 1) % 4, 4, 1e4)}.get(
        case, torch.randn(2, 4, 12)
    )
    truth = {"one class": torch.ones_like(truth), "nothing known": torch.full_like(truth, 255)}.get(
        case, truth
    )
    if case == "empty":
        logits, truth = logits[:0], truth[:0]
    logits = logits.to(dtype).requires_grad_()
    value = loss(logits, truth)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    if case in ("nothing known", "empty"):
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert not logits.grad.any()
    if case == "perfect":
        assert value.item() == pytest.approx(0, abs=1e-6)
    if case == "hopeless":
        assert value.item() > 1


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_float32_inside_under_autocast(loss: nn.Module) -> None:
    """bfloat16 counts to 256 only: a sum of 4096 pixels taken in it would be far off."""
    logits, classes = batch(4, (64, 64), dtype=torch.float32)
    plain = loss(logits, classes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, classes)
        half = loss(logits.bfloat16(), classes)
    assert inside.dtype == half.dtype == torch.float32
    assert inside.item() == plain.item()
    assert half.item() == loss(logits.bfloat16().float(), classes).item()


def test_values_of_large_batches_stay_exact() -> None:
    logits, classes = batch(4, (400, 400), dtype=torch.float32)
    for loss in EVERY:
        precise = loss(logits.double(), classes).item()
        assert loss(logits, classes).item() == pytest.approx(precise, rel=1e-4)


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
def test_better_predictions_score_lower(loss: nn.Module, n_classes: int, ndim: int) -> None:
    _, classes = batch(n_classes, (6,) * ndim)
    truth = torch.where(classes == 255, 0, classes)
    wrong = certain((truth + 1) % n_classes, n_classes, 1.0)
    unsure = torch.zeros_like(wrong)
    right = certain(truth, n_classes, 1.0)
    perfect = certain(truth, n_classes, 30.0)
    values = [loss(z, classes).item() for z in (perfect, right, unsure, wrong)]
    assert values == sorted(set(values))
    assert values[0] == pytest.approx(0, abs=1e-4)


def test_j_does_not_move_with_the_imbalance() -> None:
    """The point of J: doubling one class changes nothing as long as its pixels look the same."""
    logits, classes = batch(3, (5, 5))
    twice = torch.where(classes == 2, classes, 255)
    both, truth = torch.cat([logits, logits]), torch.cat([classes, twice])
    torch.testing.assert_close(JLoss()(both, truth), JLoss()(logits, classes))
    assert abs(CELoss()(both, truth) - CELoss()(logits, classes)) > 1e-3


def test_binary_form_by_hand() -> None:
    """Eq. 1: TPR = (.9 + .5) / 2 = .7, TNR = .6, so -lam log .65."""
    odds = torch.logit(torch.tensor([[0.9, 0.5, 0.4, 0.99]]))
    loss = BinaryJLoss(lam=2.0)(odds, torch.tensor([[1, 1, 0, 255]]))
    assert loss.item() == pytest.approx(-2 * math.log(0.65), abs=1e-6)
    assert BinaryJLoss()(odds, torch.tensor([[1, 1, 1, 1]])).item() == 0


def test_binary_form_is_the_form_of_two_classes(ndim: int) -> None:
    logits, classes = batch(2, (4,) * ndim)
    one = BinaryJLoss(0.8)(logits[:, 1] - logits[:, 0], classes)
    torch.testing.assert_close(one, JLoss(0.4)(logits, classes))


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
@pytest.mark.parametrize(
    ("logits", "classes"),
    [((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4, 4), (2, 1, 4, 4)), ((3,), (3,)), ((2, 3), (3,))],
)
def test_wrong_shapes_are_refused(loss: nn.Module, logits: tuple[int, ...], classes: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected \(N, K, \*S\) and \(N, \*S\)") as told:
        loss(torch.zeros(logits), torch.zeros(classes, dtype=torch.long))
    assert str(logits) in str(told.value)
    assert str(classes) in str(told.value)


def test_binary_form_refuses_wrong_shapes() -> None:
    with pytest.raises(DataError, match="expected"):
        BinaryJLoss()(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_classes_of_any_integer_type_and_memory_layout(dtype: torch.dtype) -> None:
    logits, classes = batch(3, (4, 6), dtype=torch.float32)
    expected = JCLoss()(logits, classes)
    last = logits.to(memory_format=torch.channels_last)
    torch.testing.assert_close(JCLoss()(last, classes.to(dtype)), expected)
    torch.testing.assert_close(JCLoss()(logits.transpose(2, 3), classes.to(dtype).transpose(1, 2)), expected)


def test_sums_are_those_of_one_hot() -> None:
    logits, classes = batch(5, (7, 7))
    flat, known = flatten(logits, classes, 255)
    one_hot = nn.functional.one_hot(known, 5).double()
    torch.testing.assert_close(class_sums(flat, known), one_hot.T @ flat)


@pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_gap_decided_adds_the_cross_entropy_of_three_classes(loss: nn.Module, shape: tuple[int, ...]) -> None:
    logits, classes = batch(4, shape)
    logits.requires_grad_()
    decided = classes.clone()
    decided[classes == 3] = 0
    added = reference.cross_entropy(logits[:, :3], decided)
    torch.testing.assert_close(GapDecided(loss, 0.3)(logits, classes), loss(logits, classes) + 0.3 * added)
    assert torch.autograd.gradcheck(lambda z: GapDecided(loss, 0.3)(z, classes), logits)


def test_gap_decided_of_three_classes_or_without_weight_is_the_loss_itself() -> None:
    three, four = batch(3, (5, 6)), batch(4, (5, 6))
    assert GapDecided(JCLoss())(*three) == JCLoss()(*three)
    assert GapDecided(JCLoss(), 0)(*four) == JCLoss()(*four)


def test_gap_decided_says_what_comes_next_in_a_gap() -> None:
    """The loss of four classes has no opinion between background and touching there; the sum has."""
    gap = torch.tensor([[3]])
    next_background = torch.tensor([[[2.0], [0], [0], [9]]])
    next_touching = torch.tensor([[[0.0], [0], [2], [9]]])
    plain, decided = CELoss(), GapDecided(CELoss())
    assert plain(next_background, gap) == plain(next_touching, gap)
    assert decided(next_background, gap) < decided(next_touching, gap) - 1


def test_made_by_name() -> None:
    logits, classes = batch(3, (4, 4))
    expected = {"jc": JCLoss(0.3), "ce": CELoss(), "dsc": DSCLoss()}
    assert set(LOSSES) == set(expected)
    for name, loss in expected.items():
        torch.testing.assert_close(make_loss(name, 0.3)(logits, classes), loss(logits, classes))
    with pytest.raises(DataError, match='loss is "mse", expected one of ce, dsc, jc'):
        make_loss("mse")


def test_in_anyones_training_loop() -> None:
    """A linear classifier learns what can be learnt, with the public loss."""
    torch.manual_seed(0)
    points = torch.randn(1, 2, 400)
    classes = (points[:, 0] > 1.2).long()  # one in nine
    net = nn.Conv1d(2, 2, 1)
    loss, optimiser = cleft.JCLoss(lam=0.5), torch.optim.Adam(net.parameters(), 0.1)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            optimiser.zero_grad()
            value = loss(net(points), classes)
            value.backward()
            optimiser.step()
            values.append(value.item())
    assert values[-1] < 0.25 * values[0]
    assert (net(points).argmax(1) == classes).float().mean() > 0.95
