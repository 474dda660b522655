"""What training minimises: cross entropy over the labelled pixels, with Dice and Lovász terms on request.

Letters in names: B batch, K classes, H and W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from geoasanet.classes import NODATA
from geoasanet.errors import ConfigError

_EPS = torch.finfo(torch.float32).eps


def count_valid(label_BHW: Tensor, ignore_index: int = NODATA) -> Tensor:
    """Return the number of labelled pixels, int64 scalar on the label's device.

    Args:
        label_BHW: Class ids, uint8 or int64.
        ignore_index: Value of pixels that do not count.
    """
    return (label_BHW != ignore_index).sum()


class SegmentationLoss(nn.Module):
    """Cross entropy of the main and auxiliary logits, plus Dice and Lovász terms of the main ones.

    Cross entropy is the sum over labelled pixels, each times the weight of its class, divided by the number of labelled
    pixels plus 1.19e-7, as the original code does: a batch without labels gives 0, and class weights are not
    normalised. Dice is that of V-Net (Milletari et al. 2016, arXiv 1606.04797) over the classes present, Lovász the
    Lovász-Softmax of Berman et al. 2018, arXiv 1705.08790; both come from segmentation-models-pytorch (MIT).

    Args:
        num_classes: Number of classes K.
        class_weights: Weight of each class in the cross entropy; ``None`` for 1.
        label_smoothing: Share of the target that is spread evenly over all classes.
        dice: Weight of the Dice term.
        lovasz: Weight of the Lovász term.
        auxiliary_weight: Weight of the auxiliary heads' cross entropy; 0.4 in the paper.
        ignore_index: Label of pixels that do not count.

    Raises:
        ConfigError: If a weight is negative or not finite, or there is not one for each class.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        num_classes: int,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        dice: float = 0.0,
        lovasz: float = 0.0,
        auxiliary_weight: float = 0.4,
        ignore_index: int = NODATA,
    ) -> None:
        super().__init__()
        for name, value in (("dice", dice), ("lovasz", lovasz), ("auxiliary_weight", auxiliary_weight)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"Loss weight {name} must be 0 or more, found {value}.")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be from 0 to below 1, found {label_smoothing}.")
        self.label_smoothing = label_smoothing
        self.auxiliary_weight = auxiliary_weight
        self.ignore_index = ignore_index
        weights = None if class_weights is None else _check_weights(class_weights, num_classes)
        self.register_buffer("class_weights", weights, persistent=False)
        self.regions = _region_terms(dice, lovasz, ignore_index)

    def forward(
        self, outputs: Tensor | tuple[Tensor, ...], label_BHW: Tensor, valid_count: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar of at least float32 whatever the precision of the logits.

        Dice and Lovász are no sums over pixels: where ``valid_count`` is given they count by this batch's share of it,
        so that the parts of a large batch add up to the mean of their terms.

        Args:
            outputs: Logits (B, K, H, W), or these and the logits of auxiliary heads, all of one shape.
            label_BHW: Class ids, uint8 or int64.
            valid_count: Labelled pixels to divide by, a scalar; this batch's own by default. With the number in a whole
                batch, losses of its parts add up to the loss of the whole; divided by the number of processes, the
                mean over the processes is that loss.
        """
        main, *auxiliary = (outputs,) if isinstance(outputs, Tensor) else outputs
        own_count = count_valid(label_BHW, self.ignore_index)
        count = own_count if valid_count is None else valid_count
        label_BHW = label_BHW.long()
        with torch.autocast(main.device.type, enabled=False):
            main = _at_least_float32(main)
            loss = self._cross_entropy(main, label_BHW, count)
            for logits in auxiliary:
                loss = loss + self.auxiliary_weight * self._cross_entropy(_at_least_float32(logits), label_BHW, count)
            if self.regions:
                share = own_count / (count + _EPS)
                for weight, term in self.regions:
                    # Without any labelled pixel, Lovász gives an empty tensor: its sum is 0.
                    loss = loss + weight * share * term(main, label_BHW).sum()
        return loss

    def _cross_entropy(self, logits_BKHW: Tensor, label_BHW: Tensor, count: Tensor) -> Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(logits_BKHW)
        total = cross_entropy(
            logits_BKHW,
            label_BHW,
            weights,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return total / (count + _EPS)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _check_weights(class_weights: Sequence[float], num_classes: int) -> Tensor:
    if len(class_weights) != num_classes:
        raise ConfigError(f"Found {len(class_weights)} class weights for {num_classes} classes; one each is needed.")
    if not all(math.isfinite(w) and w >= 0 for w in class_weights) or not any(class_weights):
        raise ConfigError(f"Class weights must be 0 or more and not all 0, found {list(class_weights)}.")
    return torch.tensor(class_weights, dtype=torch.float32)


def _region_terms(dice: float, lovasz: float, ignore_index: int) -> tuple[tuple[float, nn.Module], ...]:
    """Return weight and loss of the terms that are asked for."""
    if not dice and not lovasz:
        return ()
    from segmentation_models_pytorch.losses import MULTICLASS_MODE, DiceLoss, LovaszLoss

    terms = (
        (dice, DiceLoss(MULTICLASS_MODE, from_logits=True, ignore_index=ignore_index)),
        (lovasz, LovaszLoss(MULTICLASS_MODE, from_logits=True, ignore_index=ignore_index)),
    )
    return tuple((weight, term) for weight, term in terms if weight)
