"""How large cells are, read from what the encoder of a U-Net sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LOG2_SIZES", "SizeHead", "size_targets"]

# octaves from the diameter of cells that the network knows, to those of cells that it is shown
LOG2_SIZES = tuple(n / 4 for n in range(-12, 13))
HIDDEN = 128


class SizeHead(nn.Module):
    """At each place of the coarsest level: no cell, or how large cells are, as one of 25 sizes.

    Args:
        features: of all levels of the encoder together.

    Shape:
        ``head(features (..., F)) -> logits (..., 26)``: of each of ``LOG2_SIZES``, and of no cell.

    Example:
        >>> SizeHead(12)(torch.zeros(3, 12)).shape
        torch.Size([3, 26])
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, HIDDEN)
        self.out = nn.Linear(HIDDEN, len(LOG2_SIZES) + 1)

    def forward(self, features: Tensor) -> Tensor:
        """(..., F) to logits (..., 26)."""
        return self.out(functional.relu(self.hidden(features)))


def size_targets(log2_sizes: Tensor, spread: float = 0.2) -> Tensor:
    """What ``SizeHead`` should say: (N,) octaves, NaN for no cell, to probabilities (N, 26).

    Example:
        >>> size_targets(torch.tensor([0.0, torch.nan])).argmax(1)
        tensor([12, 25])
    """
    bell = torch.exp(-0.5 * ((log2_sizes[:, None] - torch.tensor(LOG2_SIZES)) / spread) ** 2)
    none = torch.isnan(log2_sizes)[:, None]
    sizes = (bell / bell.sum(1, keepdim=True)).masked_fill(none, 0.0)
    return torch.cat([sizes, none.float()], 1)
