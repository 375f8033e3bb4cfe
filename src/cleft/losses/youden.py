"""Cross entropy regularised by Youden's J: the loss this project is about (paper, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cleft.core.errors import DataError
from cleft.losses.statistics import ClassStatistics, StatisticsLoss, add_over_devices, mean

__all__ = ["BinaryJLoss", "JCLoss", "JLoss"]

JWeight = float | Sequence[float] | Sequence[Sequence[float]] | Tensor
TINY = 1e-7  # keeps the logarithm finite for a hopeless prediction, where a pair's J is -1


class JLoss(StatisticsLoss):
    """Youden's J over ordered pairs of classes, as a loss of 0 or more.

    With m[i, k] the mean probability of class i over the pixels whose true class is k,

        L_J = - sum over i != k of j_weight[i, k] * log(1/2 + (m[i, i] - m[i, k]) / 2)

    which is 0 for a perfect prediction. A pair takes part if both classes are present in what is
    summed over. The sums behind m are added over devices before the ratio. One pass over the pixels
    gives all of m: the cost is linear in the number of classes.

    Args:
        j_weight: the paper's lambda, weight of the pairs: a number, a vector of K (by the class i), or a
            K x K matrix.
        ignore_index: class of pixels that take no part.
        reduction: ``"batch"`` sums over all pixels of the batch and of all devices; ``"image"`` takes
            the J of each image and their mean.
        pairs: the ordered pairs (i, k) that take part; all if not given.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64), for any K and *S, also under autocast. A pixel of weight 2 counts as two.
        0 where nothing is annotated.

    Raises:
        DataError: shapes that don't belong together, ``j_weight`` of another size than K, or a pair of
            classes that aren't there. On a card a class outside 0..K-1 makes the loss NaN instead.

    Source:
        J Regularization Improves Imbalanced Multiclass Segmentation (ISBI 2020), Eq. 3.

    Example:
        >>> classes = torch.tensor([[0, 0, 1, 1]])
        >>> sure = 20 * torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]])
        >>> round(float(JLoss(j_weight=1.0)(sure, classes)), 4)
        0.0
        >>> round(float(JLoss(j_weight=1.0)(0 * sure, classes)), 4)  # two pairs, J = 0: 2 log 2
        1.3863
    """

    strength = 1.0  # share of j_weight that is in force; a training may move it, see ``strength_at``

    def __init__(
        self,
        j_weight: JWeight = 1.0,
        ignore_index: int = 255,
        reduction: Literal["batch", "image"] = "batch",
        pairs: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(ignore_index)
        if reduction not in ("batch", "image"):
            raise DataError(f'reduction is "{reduction}", expected batch or image')
        self.register_buffer("j_weight", torch.as_tensor(j_weight, dtype=torch.float64), persistent=False)
        self.reduction, self.per_image, self.pairs = reduction, reduction == "image", pairs

    def of(self, found: ClassStatistics) -> Tensor:
        """The loss from its sums."""
        weights = self.strength * self._matrix(found.counts.shape[1])
        each = pairwise_j(found.sums, found.counts, weights)
        if not self.per_image:
            return each.sum()
        images = add_over_devices(each.new_tensor(float(len(each))))
        return add_over_devices(each.sum()) / images.clamp(min=1)

    def extra_repr(self) -> str:
        return f"j_weight={self.get_buffer('j_weight').tolist()}, reduction={self.reduction}"

    def _matrix(self, k: int) -> Tensor:
        """``j_weight`` as a K x K matrix, 0 for the pairs that take no part."""
        weights = self.get_buffer("j_weight")
        if weights.shape == (k,):
            weights = weights[:, None]
        elif weights.ndim and weights.shape != (k, k):
            raise DataError(f"j_weight is {tuple(weights.shape)}, expected a number, ({k},) or ({k}, {k})")
        weights = weights.expand(k, k)
        if self.pairs is None:
            return weights
        if any(not 0 <= i < k or not 0 <= other < k or i == other for i, other in self.pairs):
            raise DataError(f"pairs are {list(self.pairs)}, expected pairs of two classes of 0 to {k - 1}")
        part = torch.zeros(k, k, dtype=weights.dtype)
        for i, other in self.pairs:
            part[i, other] = 1
        return weights * part.to(weights.device)


class JCLoss(JLoss):
    """Cross entropy plus Youden's J: trains imbalanced classes without class weights.

    One compiled pass over logits and classes gives both terms, another their gradient; nothing of the
    size of the logits is kept in between.

    Args:
        j_weight: weight of the J term: a number, a vector of K, or a K x K matrix (see ``JLoss``).
        ignore_index: class of pixels that take no part in either term.
        reduction: of the J term, ``"batch"`` or ``"image"`` (see ``JLoss``).
        pairs: of the J term; all if not given.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64). A pixel of weight 2 counts as two in both terms. 0 where nothing is
        annotated. Several processes get the loss of all their pixels together.

    Raises:
        DataError: as ``JLoss``.

    Source:
        The paper, section 2.1: L_JC = L_CE + L_J.

    Example:
        >>> logits = torch.zeros(2, 4, 8, 8, requires_grad=True)
        >>> loss = JCLoss(j_weight=0.05)(logits, torch.randint(0, 4, (2, 8, 8)))
        >>> loss.backward()
        >>> round(loss.item(), 3)  # log 4 + 12 pairs x 0.05 x log 2
        1.802
    """

    def __init__(
        self,
        j_weight: JWeight = 0.05,
        ignore_index: int = 255,
        reduction: Literal["batch", "image"] = "batch",
        pairs: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(j_weight, ignore_index, reduction, pairs)

    def of(self, found: ClassStatistics) -> Tensor:
        nll, pixels = found.nll.sum(), found.counts.sum()
        if self.per_image:
            nll, pixels = add_over_devices(nll), add_over_devices(pixels)
        return mean(nll, pixels) + super().of(found)


class BinaryJLoss(nn.Module):
    """Youden's J of one class against the rest, as a loss of 0 or more.

    L = - j_weight * log((TPR + TNR) / 2) with soft rates; a rate whose pixels are absent takes no part
    (the loss is then 0).

    Args:
        j_weight: weight.
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, *S) float, classes (N, *S) integer 0 or 1, weight (N, *S) or None) -> ()``.

    Source:
        The paper, Eq. 1.

    Example:
        >>> loss = BinaryJLoss()(torch.tensor([[-20.0, 20.0]]), torch.tensor([[0, 1]]))
        >>> round(float(loss), 4)
        0.0
    """

    def __init__(self, j_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        # the two ordered pairs of Eq. 3 are the same number for two classes, so each gets half
        self.both = JLoss(j_weight / 2, ignore_index)

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.both(torch.stack([torch.zeros_like(logits), logits], 1), classes, weight)


def pairwise_j(sums: Tensor, counts: Tensor, j_weight: Tensor) -> Tensor:
    """Eq. 3 from its sums.

    Args:
        sums: (..., K, K), sums[t, i] the probability of class i added over the pixels of true class t.
        counts: (..., K) pixels of each true class.
        j_weight: (K, K) weights; the diagonal is not used.

    Returns:
        (...) the loss without the constant of its diagonal.

    Example:
        >>> float(pairwise_j(torch.eye(2), torch.ones(2), torch.ones(2, 2)))
        0.0
    """
    # a class that is absent has sums of 0, and a weight below 1 must not be taken for absence
    m = mean(sums, counts[..., None]).mT  # m[i, t]
    agreement = 0.5 + (m.diagonal(dim1=-2, dim2=-1)[..., None] - m) / 2
    present = counts != 0  # NaN is present: a class that can't be must not go unseen
    pairs = present[..., :, None] & present[..., None, :] & (j_weight != 0).to(sums.device)
    pairs = pairs & ~torch.eye(counts.shape[-1], dtype=torch.bool, device=sums.device)
    # the absent pairs' agreement is set to 1 before the logarithm, so that no NaN enters the gradient
    terms = torch.log(torch.where(pairs, agreement, 1.0).clamp(min=TINY))
    return 0.0 - (j_weight.to(terms) * terms).sum((-2, -1))  # a plain minus would make -0 of a perfect one


SCHEDULES = ("constant", "rising", "falling")


def strength_at(schedule: str, share: float) -> float:
    """The share of ``j_weight`` in force after a share of the training.

    Args:
        schedule: ``"constant"``; ``"rising"`` from 0 to all of j_weight; ``"falling"`` from all of it to 0.
        share: of the steps done, 0 to 1.

    Raises:
        DataError: another name.

    Example:
        >>> strength_at("rising", 0.25), strength_at("falling", 0.25), strength_at("constant", 0.25)
        (0.25, 0.75, 1.0)
    """
    if schedule not in SCHEDULES:
        raise DataError(f'j_weight_schedule is "{schedule}", expected one of {", ".join(SCHEDULES)}')
    return {"constant": 1.0, "rising": share, "falling": 1 - share}[schedule]
