"""Small parts that several networks share.

Letters in names: B batch, C channels, K classes, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def resize(x_BChw: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Return a map resampled bilinearly to ``size`` (height, width)."""
    return interpolate(x_BChw, size=tuple(size), mode="bilinear", align_corners=align_corners)
