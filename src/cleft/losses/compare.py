"""The losses JC is compared with, cross entropy alone and plus Dice; and what training adds to each."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from cleft.base.errors import DataError
from cleft.labels.classes import BACKGROUND, GAP
from cleft.losses.statistics import add_over_devices, flatten
from cleft.losses.youden import JCLoss

__all__ = ["LOSSES", "CELoss", "DSCLoss", "GapDecided", "make_loss"]


class CELoss(nn.Module):
    """Plain cross entropy, the mean over annotated pixels of all devices.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer) -> ()``. 0 where nothing is annotated.

    Example:
        >>> round(float(CELoss()(torch.zeros(1, 4, 5), torch.zeros(1, 5, dtype=int))), 4)  # log 4
        1.3863
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            flat, known = flatten(logits, classes, self.ignore_index)
            missed = nn.functional.cross_entropy(flat, known, reduction="sum")
            n = add_over_devices(flat.new_tensor(float(len(known))))
            return add_over_devices(missed) / n.clamp(min=1)


class DSCLoss(nn.Module):
    """Cross entropy plus soft Dice (MONAI's, pooled over the batch), the paper's DSC.

    Under several processes the Dice term is each process's own, as MONAI computes it.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer) -> ()``.

    Source:
        The paper, Table 1, "DSC"; Dice from ``monai.losses.DiceLoss``.

    Example:
        >>> sure = 30 * torch.eye(3)[None]
        >>> round(float(DSCLoss()(sure, torch.tensor([[0, 1, 2]]))), 4)
        0.0
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.cross_entropy = CELoss(ignore_index)
        self.dice = DiceLoss(batch=True)

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            flat, known = flatten(logits, classes, self.cross_entropy.ignore_index)
            truth = nn.functional.one_hot(known, flat.shape[1]).to(flat)
            # MONAI wants (N, K, *S): the annotated pixels as one long line
            dice = self.dice(torch.softmax(flat, 1).T[None], truth.T[None])
        return self.cross_entropy(logits, classes) + dice


class GapDecided(nn.Module):
    """A loss of four classes, plus cross entropy of the three that labels are made of, gap being background.

    The labels are decided by the likeliest of background, cell and touching, also where gap is likelier
    than all three. A loss of four classes alone teaches nothing of which of the three comes next there,
    and gaps fill with touching. Logits of three classes pass through.

    Args:
        loss: (logits, classes) to ().
        weight: of the added term; 0 leaves the loss as it is.
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer) -> ()``. 0 where nothing is annotated.

    Source:
        Ours. The decision it trains is the paper's, "Gap assignment".

    Example:
        >>> gap, logits = torch.full((1, 2), 3), 30 * torch.eye(4)[[0, 3]].T[None]
        >>> logits[0, 3, 0] = 60  # both pixels are surely gap; next likeliest: background, and nothing
        >>> round(float(CELoss()(logits, gap)), 4), round(float(GapDecided(CELoss())(logits, gap)), 4)
        (0.0, 0.5493)
    """

    def __init__(self, loss: nn.Module, weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight
        self.cross_entropy = CELoss(ignore_index)

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        loss = self.loss(logits, classes)
        if self.weight == 0 or logits.shape[1] <= GAP:
            return loss
        decided = torch.where(classes == GAP, BACKGROUND, classes)
        return loss + self.weight * self.cross_entropy(logits[:, :GAP], decided)


LOSSES = ("ce", "dsc", "jc")


def make_loss(name: str, lam: float = 0.05, ignore_index: int = 255) -> nn.Module:
    """A loss by its name.

    Args:
        name: ``"jc"``, ``"ce"`` or ``"dsc"``.
        lam: weight of the J term (``"jc"`` only).
        ignore_index: class of pixels that take no part.

    Raises:
        DataError: an unknown name.

    Example:
        >>> make_loss("jc", lam=0.5)
        JCLoss()
    """
    if name == "jc":
        return JCLoss(lam, ignore_index)
    if name == "ce":
        return CELoss(ignore_index)
    if name == "dsc":
        return DSCLoss(ignore_index)
    raise DataError(f'loss is "{name}", expected one of {", ".join(LOSSES)}')
