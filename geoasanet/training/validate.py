"""Accuracy on the val split, each pixel counted once over all processes, and the temperature that fits it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from geoasanet.classes import NODATA
from geoasanet.errors import NonFiniteError
from geoasanet.metrics import Metrics
from geoasanet.training.calibration import ENOUGH, Fit, TemperatureSums
from geoasanet.training.learner import Learner
from geoasanet.training.samples import Batch


def validate(learner: Learner, batches: Iterator[Batch]) -> tuple[Metrics, float, Fit]:
    """Return the metrics, the mean cross entropy and the temperature of the network that is to be saved.

    Args:
        learner: The network in training; it is in training mode again afterwards.
        batches: This process's part of the val split.

    Raises:
        NonFiniteError: If the network gives NaN or infinity.
    """
    processes = learner.processes
    network = learner.evaluated
    processes.agree(list(network.buffers()))
    classes = network.num_classes
    matrix = torch.zeros((classes, classes), dtype=torch.int64, device=processes.device)
    loss = torch.zeros(2, dtype=torch.float64, device=processes.device)
    temperature = TemperatureSums(processes.device)
    network.eval()
    with torch.inference_mode():
        for batch in batches:
            part = batch.to(processes.device)
            with learner.autocast():
                logits_BKHW = network(part.rgb, part.sar)
            label_BHW = part.label.long()
            valid_BHW = label_BHW != NODATA
            total = cross_entropy(logits_BKHW.float(), label_BHW, ignore_index=NODATA, reduction="sum")
            loss += torch.stack([total.double(), valid_BHW.sum().double()])
            matrix += _confusion(logits_BKHW, label_BHW, valid_BHW)
            temperature.add(logits_BKHW, label_BHW, ENOUGH)
    network.train(network is learner.network)
    matrix, loss = processes.sum(matrix), processes.sum(loss)
    temperature.values = processes.sum(temperature.values)
    mean = float(loss[0] / loss[1].clamp(min=1))
    if not math.isfinite(mean):
        raise NonFiniteError(
            f"The network gives {mean} on the val split.", "Training diverged; use a smaller lr or clip_norm."
        )
    return Metrics.from_matrix(matrix.cpu().numpy()), mean, temperature.fit()


def _confusion(logits_BKHW: Tensor, label_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    classes = logits_BKHW.shape[1]
    flat = label_BHW[valid_BHW] * classes + logits_BKHW.argmax(1)[valid_BHW]
    return torch.bincount(flat, minlength=classes * classes).view(classes, classes)
