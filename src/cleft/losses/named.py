"""Every loss by its name, as a training's settings ask for it; and what training adds to each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cleft.core.settings import LOSSES, LossSettings
from cleft.labels.classes import BACKGROUND, GAP
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

__all__ = ["LOSSES", "MergedGapLoss", "make_loss"]

# those that J's settings are for
YOUDEN: dict[str, type[JLoss]] = {"jc": JCLoss, "j": JLoss}
# bwm and w3 are cross entropy with a map of ``cleft.labels.weights.WEIGHT_MAPS``, which the patches bring
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "ce": CELoss, "wce": BalancedCELoss, "bwm": CELoss, "w3": CELoss, "dsc": DSCLoss, "dice": DiceLoss,
    "gdl": GeneralisedDiceLoss, "tversky": TverskyLoss, "focal": FocalLoss, "lovasz": LovaszLoss,
    "mcc": MCCLoss, "sens-spec": SensitivitySpecificityLoss, "boundary": BoundaryLoss,
}  # fmt: skip


def make_loss(settings: LossSettings) -> nn.Module:
    """The loss of a training: ``loss(logits (N, K, *S), classes (N, *S), weight (N, *S) or None) -> ()``.

    Example:
        >>> make_loss(LossSettings(loss="jc", j_weight=0.5))
        JCLoss(j_weight=0.5, reduction=batch)
    """
    if settings.loss in YOUDEN:
        return YOUDEN[settings.loss](
            settings.j_weight, reduction=settings.j_reduction, pairs=settings.j_pairs
        )
    return OTHERS[settings.loss]()


class MergedGapLoss(nn.Module):
    """A loss of four classes, plus cross entropy of the three that labels are made of, gap being background.

    The labels are decided by the likeliest of background, cell and touching, also where gap is likelier
    than all three. A loss of four classes alone teaches nothing of which of the three comes next there,
    and gaps fill with touching. Logits of three classes pass through.

    Args:
        loss: (logits, classes, weight) to ().
        weight: of the added term; 0 leaves the loss as it is.
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()``; the weight
        is that of the pixels, in both terms.

    Source:
        Ours. The decision it trains is the paper's, "Gap assignment".

    Example:
        >>> gap, logits = torch.full((1, 2), 3), 30 * torch.eye(4)[[0, 3]].T[None]
        >>> logits[0, 3, 0] = 60  # both pixels are surely gap; next likeliest: background, and nothing
        >>> round(float(CELoss()(logits, gap)), 4), round(float(MergedGapLoss(CELoss())(logits, gap)), 4)
        (0.0, 0.5493)
    """

    def __init__(self, loss: nn.Module, weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight
        self.cross_entropy = CELoss(ignore_index)

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        loss = self.loss(logits, classes, weight)
        if self.weight == 0 or logits.shape[1] <= GAP:
            return loss
        decided = torch.where(classes == GAP, BACKGROUND, classes)
        return loss + self.weight * self.cross_entropy(logits[:, :GAP], decided, weight)
