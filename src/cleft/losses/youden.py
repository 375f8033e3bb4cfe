"""Cross entropy regularised by Youden's J: the loss this project is about (paper, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cleft.base.errors import DataError
from cleft.losses.statistics import add_over_devices, class_counts, class_sums, flatten

__all__ = ["BinaryJLoss", "JCLoss", "JLoss"]

Lambda = float | Sequence[float] | Sequence[Sequence[float]] | Tensor
TINY = 1e-7  # keeps the logarithm finite for a hopeless prediction, where a pair's J is -1


class JLoss(nn.Module):
    """Youden's J over all ordered pairs of classes, as a loss of 0 or more.

    With m[i, k] the mean probability of class i over the pixels whose true class is k,

        L_J = - sum over i != k of lam[i, k] * log(1/2 + (m[i, i] - m[i, k]) / 2)

    which is 0 for a perfect prediction. A pair takes part if both classes are present in the batch.
    The sums behind m are added over devices before the ratio. One pass over the pixels gives all of
    m: the cost is linear in the number of classes.

    Args:
        lam: weight of the pairs: a number, a vector of K (by the class i), or a K x K matrix.
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer) -> ()`` float32 (float64 for float64),
        for any K and *S, also under autocast. 0 where nothing is annotated.

    Raises:
        DataError: shapes that don't belong together, or ``lam`` of another size than K.

    Source:
        J Regularization Improves Imbalanced Multiclass Segmentation (ISBI 2020), Eq. 3.

    Example:
        >>> classes = torch.tensor([[0, 0, 1, 1]])
        >>> sure = 20 * torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]])
        >>> round(float(JLoss(lam=1.0)(sure, classes)), 4)
        0.0
        >>> round(float(JLoss(lam=1.0)(0 * sure, classes)), 4)  # two pairs, J = 0: 2 log 2
        1.3863
    """

    def __init__(self, lam: Lambda = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.register_buffer("lam", torch.as_tensor(lam, dtype=torch.float64), persistent=False)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            flat, known = flatten(logits, classes, self.ignore_index)
            k = flat.shape[1]
            counts = add_over_devices(class_counts(known, k).to(flat))
            sums = add_over_devices(class_sums(torch.softmax(flat, 1), known))
            return pairwise_j(sums, counts, _matrix(self.get_buffer("lam"), k))


class JCLoss(JLoss):
    """Cross entropy plus Youden's J: trains imbalanced classes without class weights.

    Args:
        lam: weight of the J term: a number, a vector of K, or a K x K matrix (see ``JLoss``).
        ignore_index: class of pixels that take no part in either term.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer) -> ()`` float32 (float64 for float64).
        0 where nothing is annotated. Several processes get the loss of all their pixels together.

    Raises:
        DataError: shapes that don't belong together, or ``lam`` of another size than K.

    Source:
        The paper, section 2.1: L_JC = L_CE + L_J.

    Example:
        >>> logits = torch.zeros(2, 4, 8, 8, requires_grad=True)
        >>> loss = JCLoss(lam=0.05)(logits, torch.randint(0, 4, (2, 8, 8)))
        >>> loss.backward()
        >>> round(loss.item(), 3)  # log 4 + 12 pairs x 0.05 x log 2
        1.802
    """

    def __init__(self, lam: Lambda = 0.05, ignore_index: int = 255) -> None:
        super().__init__(lam, ignore_index)

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            flat, known = flatten(logits, classes, self.ignore_index)
            k = flat.shape[1]
            logs = torch.log_softmax(flat, 1)
            counts = add_over_devices(class_counts(known, k).to(flat))
            sums = add_over_devices(class_sums(logs.exp(), known))
            missed = add_over_devices(-logs.gather(1, known[:, None]).sum())
            cross_entropy = missed / counts.sum().clamp(min=1)
            return cross_entropy + pairwise_j(sums, counts, _matrix(self.get_buffer("lam"), k))


class BinaryJLoss(nn.Module):
    """Youden's J of one class against the rest, as a loss of 0 or more.

    L = - lam * log((TPR + TNR) / 2) with soft rates; a rate whose pixels are absent takes no part
    (the loss is then 0).

    Args:
        lam: weight.
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, *S) float, classes (N, *S) integer 0 or 1) -> ()``.

    Source:
        The paper, Eq. 1.

    Example:
        >>> loss = BinaryJLoss()(torch.tensor([[-20.0, 20.0]]), torch.tensor([[0, 1]]))
        >>> round(float(loss), 4)
        0.0
    """

    def __init__(self, lam: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        # the two ordered pairs of Eq. 3 are the same number for two classes, so each gets half
        self.pairs = JLoss(lam / 2, ignore_index)

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        return self.pairs(torch.stack([torch.zeros_like(logits), logits], 1), classes)


def pairwise_j(sums: Tensor, counts: Tensor, lam: Tensor) -> Tensor:
    """Eq. 3 from its sums.

    Args:
        sums: (K, K), sums[t, i] the probability of class i added over the pixels of true class t.
        counts: (K,) pixels of each true class.
        lam: (K, K) weights; the diagonal is not used.

    Returns:
        () the loss without the constant of its diagonal.

    Example:
        >>> float(pairwise_j(torch.eye(2), torch.ones(2), torch.ones(2, 2)))
        0.0
    """
    mean = (sums / counts.clamp(min=1)[:, None]).T  # mean[i, t]
    agreement = 0.5 + (mean.diagonal()[:, None] - mean) / 2
    present = counts > 0
    pairs = (
        present[:, None] & present[None, :] & ~torch.eye(len(counts), dtype=torch.bool, device=sums.device)
    )
    # the absent pairs' agreement is set to 1 before the logarithm, so that no NaN enters the gradient
    terms = torch.log(torch.where(pairs, agreement, 1.0).clamp(min=TINY))
    return 0.0 - (lam.to(terms) * terms).sum()  # a plain minus would make -0 of a perfect prediction


def _matrix(lam: Tensor, k: int) -> Tensor:
    """lam as a K x K matrix."""
    if lam.ndim == 0:
        return lam.expand(k, k)
    if lam.shape == (k,):
        return lam[:, None].expand(k, k)
    if lam.shape == (k, k):
        return lam
    raise DataError(f"lam is {tuple(lam.shape)}, expected a number, ({k},) or ({k}, {k})")
