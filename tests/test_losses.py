"""Losses equal their definitions, their gradients are right, and nothing makes them infinite."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

import cleft
from cleft.core.errors import DataError
from cleft.losses.pixelwise import CELoss
from cleft.losses.statistics import masked, plain_statistics
from cleft.losses.youden import BinaryJLoss, JCLoss, JLoss, strength_at
from references import losses as reference

SHAPES = [(7,), (3, 4), (2, 3, 2)]
EVERY = [JLoss(0.7), JCLoss(0.7)]  # what every loss must keep is in test_all_losses
NAMES = ["j", "jc"]


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
    with pytest.raises(DataError, match=r"j_weight is \(.*\), expected a number, \(3,\) or \(3, 3\)"):
        loss(lam)(logits, classes)


def test_lambda_is_no_weight_of_a_model() -> None:
    """It isn't trained, and not stored where it could clash with a model trained with another."""
    assert not list(JCLoss(0.5).parameters())
    assert not JCLoss(0.5).state_dict()


def test_another_number_can_be_ignored_by_the_binary_form() -> None:
    logits, classes = batch(3, (4, 4))
    two = torch.where(classes == 2, 255, classes)
    moved = torch.where(two == 255, -100, two)
    expected = BinaryJLoss()(logits[:, 0], two).item()
    assert BinaryJLoss(ignore_index=-100)(logits[:, 0], moved).item() == expected


def certain(classes: Tensor, n_classes: int, by: float) -> Tensor:
    """Logits of ``by`` for the true class and 0 for the others."""
    return by * nn.functional.one_hot(classes, n_classes).movedim(-1, 1).float()


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
    loss = BinaryJLoss(j_weight=2.0)(odds, torch.tensor([[1, 1, 0, 255]]))
    assert loss.item() == pytest.approx(-2 * math.log(0.65), abs=1e-6)
    assert BinaryJLoss()(odds, torch.tensor([[1, 1, 1, 1]])).item() == 0


def test_binary_form_is_the_form_of_two_classes(ndim: int) -> None:
    logits, classes = batch(2, (4,) * ndim)
    one = BinaryJLoss(0.8)(logits[:, 1] - logits[:, 0], classes)
    torch.testing.assert_close(one, JLoss(0.4)(logits, classes))


def test_binary_form_refuses_wrong_shapes() -> None:
    with pytest.raises(DataError, match="expected"):
        BinaryJLoss()(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5, dtype=torch.long))


def test_statistics_are_those_of_one_hot() -> None:
    logits, classes = batch(5, (7, 7))
    for per_image in (False, True):
        for found, expected in zip(
            plain_statistics(logits, classes, per_image=per_image),
            reference.statistics(logits, classes, 255, per_image),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)


def test_ignored_pixels_are_masked() -> None:
    logits, classes = batch(3, (4, 4))
    pixels, known, weights = masked(logits, classes, 255, torch.full(classes.shape, 2))
    away = (classes == 255).reshape(2, -1)
    assert not pixels[away].any()
    assert not known[away].any()
    assert weights.tolist() == torch.where(away, 0.0, 2.0).tolist()


# the options of J


@pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
def test_j_of_images_is_the_mean_of_their_own(n_classes: int, shape: tuple[int, ...]) -> None:
    logits, classes = batch(n_classes, shape)
    images = [(z[None], h[None]) for z, h in zip(logits, classes, strict=True)]
    own = torch.stack([JLoss(0.7)(*image) for image in images]).mean()
    found = JLoss(0.7, reduction="image")(logits, classes)
    torch.testing.assert_close(found, own)
    assert abs(found - JLoss(0.7)(logits, classes)) > 1e-4
    # cross entropy remains the batch's
    jc = JCLoss(0.7, reduction="image")(logits, classes)
    torch.testing.assert_close(jc, CELoss()(logits, classes) + own)


def test_another_reduction_is_refused() -> None:
    with pytest.raises(DataError, match='reduction is "pixel", expected batch or image'):
        JCLoss(reduction="pixel")


@pytest.mark.parametrize("loss", [JLoss, JCLoss])
@pytest.mark.parametrize("lam", [0.3, [0.1, 0.2, 0.9, 0.5]])
def test_pairs_are_a_lambda_of_zeros_elsewhere(loss: type[JLoss] | type[JCLoss], lam: float | list) -> None:
    logits, classes = batch(4, (5, 5))
    pairs = [(0, 1), (1, 0), (2, 3), (3, 1)]
    matrix = torch.zeros(4, 4)
    for i, k in pairs:
        matrix[i, k] = torch.as_tensor(lam).expand(4)[i]
    found = loss(lam, pairs=pairs)(logits, classes)
    torch.testing.assert_close(found, loss(matrix)(logits, classes))
    j = reference.j_loss(logits, classes, matrix)
    torch.testing.assert_close(
        found, j + (CELoss()(logits, classes) if loss is JCLoss else 0), rtol=1e-6, atol=1e-7
    )
    every = [(i, k) for i in range(4) for k in range(4) if i != k]
    torch.testing.assert_close(loss(lam, pairs=every)(logits, classes), loss(lam)(logits, classes))


@pytest.mark.parametrize("pairs", [[(0, 3)], [(1, 1)], [(-1, 0)]])
def test_pairs_that_are_none_are_refused(pairs: list) -> None:
    logits, classes = batch(3, (5, 5))
    with pytest.raises(DataError, match="expected pairs of two classes of 0 to 2"):
        JCLoss(pairs=pairs)(logits, classes)


def test_no_pairs_are_no_j() -> None:
    logits, classes = batch(3, (5, 5))
    assert JLoss(pairs=[])(logits, classes) == 0
    assert JCLoss(pairs=[])(logits, classes) == CELoss()(logits, classes)


def test_strength_is_a_share_of_lambda() -> None:
    logits, classes = batch(3, (5, 5))
    for make, rest in ((JLoss, 0), (JCLoss, CELoss()(logits, classes))):
        loss = make(0.8)
        for share in (0, 0.25, 1):
            loss.strength = share
            torch.testing.assert_close(loss(logits, classes), rest + JLoss(0.8 * share)(logits, classes))


def test_schedules() -> None:
    assert [strength_at("constant", s) for s in (0, 0.3, 1)] == [1, 1, 1]
    assert [strength_at("rising", s) for s in (0, 0.3, 1)] == [0, 0.3, 1]
    assert [strength_at("falling", s) for s in (0, 0.25, 1)] == [1, 0.75, 0]
    with pytest.raises(
        DataError, match='j_weight_schedule is "up", expected one of constant, rising, falling'
    ):
        strength_at("up", 0.5)


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_weight_2_is_a_pixel_twice_within_its_image(reduction: str) -> None:
    logits, classes = batch(3, (12,))
    weight = torch.ones(classes.shape)
    weight[:, ::3] = 2
    twice = [i for i in range(12) for _ in range(2 if i % 3 == 0 else 1)]
    for make in (JLoss, JCLoss):
        loss = make(0.7, reduction=reduction)
        found, expected = loss(logits, classes, weight), loss(logits[..., twice], classes[..., twice])
        torch.testing.assert_close(found, expected)


def test_in_anyones_training_loop() -> None:
    """A linear classifier learns what can be learnt, with the public loss."""
    torch.manual_seed(0)
    points = torch.randn(1, 2, 400)
    classes = (points[:, 0] > 1.2).long()  # one in nine
    net = nn.Conv1d(2, 2, 1)
    loss, optimiser = cleft.JCLoss(j_weight=0.5), torch.optim.Adam(net.parameters(), 0.1)
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
