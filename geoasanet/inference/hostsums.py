"""Weighted sums of overlapping windows in main memory, each value touched once.

One pass over a window takes the softmax, multiplies, adds, decides the class of what is finished and carries the rest
on, row by row of pixels, so that nothing but the window itself and what is kept leaves the processor's caches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.classes import NODATA
from geoasanet.inference.spans import Span
from geoasanet.kernels import bits_of_float, float_of_bits, kernel
from geoasanet.sample import BoolArray

FloatArray = NDArray[np.float32]

_EXPONENT = np.int32(23)  # bits of a float32 that come after its exponent
_LN2_HIGH = 0.693359375  # few bits, so that its multiples are exact
_CONSTANTS = tuple(
    np.float32(value)
    for value in (
        -87.0,  # exp of it is nearly the smallest normal float32
        1 / math.log(2),
        1.5 * 2**23 + 127,  # added, it rounds to a whole number, whose bits come last, as exponents need them
        _LN2_HIGH,
        math.log(2) - _LN2_HIGH,
        *(1 / math.factorial(n) for n in (6, 5, 4, 3, 2, 1)),
    )
)
"""What :func:`_exponentials` takes: least argument, 1 / ln 2, shift, ln 2 in two parts, Taylor's coefficients."""


class HostSums:
    """Sums of one row of windows after the other, in NumPy arrays.

    Args:
        num_classes: Classes of the network.
        size: Side of the windows, pixels.
        carried: Most rows that the next row of windows touches again.
        width: Columns that the windows span.
        row_weights: Shape (rows of windows, size).
        col_weights: Shape (columns of windows, size).
        logits: Whether windows come as logits, of which the softmax is still to be taken.
    """

    def __init__(
        self,
        num_classes: int,
        size: int,
        carried: int,
        width: int,
        row_weights: FloatArray,
        col_weights: FloatArray,
        logits: bool,
    ) -> None:
        self._logits = logits
        self._row_weights, self._col_weights = row_weights, col_weights
        # Row by row, unlike windows: in their order, equal places of all classes would share a few lines of the caches.
        self._carry = np.zeros((carried, num_classes, width), np.float32)
        self._side = np.empty((size, num_classes, size), np.float32)

    def add_row(self, index: int, windows: Iterable[tuple[Span, Tensor | None]], carried: int, out: HostRows) -> None:
        """Add a row of windows.

        Args:
            index: Position of its row weights.
            windows: From left to right, where each goes, and its probabilities or logits: shape (classes, size,
                size), float32; None adds nothing.
            carried: Rows, from the first, to which the rows of windows before have something to add.
            out: Takes the finished rows.
        """
        waiting = 0
        for span, prediction in windows:
            waiting = self._add(index, span, prediction, waiting, carried, out)

    def _add(self, index: int, span: Span, prediction: Tensor | None, waiting: int, carried: int, out: HostRows) -> int:
        """Add a window; its first columns are complete then. Return how many of the others wait for the next window.

        So many of the window before, ``waiting``, are still to be added.
        """
        pixels = self._empty if prediction is None else np.ascontiguousarray(prediction.numpy())
        row_weight, col_weight = self._row_weights[index], self._col_weights[span.column]
        add_window(
            pixels,
            self._logits and prediction is not None,
            row_weight,
            col_weight,
            self._side,
            self._carry,
            span.start,
            span.stop - span.start,
            waiting,
            carried,
            out.valid,
            out.classes,
            out.confidence,
            out.probabilities,
            _CONSTANTS,
        )
        return len(row_weight) - (span.stop - span.start)

    @functools.cached_property
    def _empty(self) -> FloatArray:
        """What a window without a prediction adds; most maps have none."""
        size, num_classes, _ = self._side.shape
        return np.zeros((num_classes, size, size), np.float32)

    def rows(self, valid: BoolArray, confidence: bool, probabilities: bool) -> HostRows:
        """Return arrays for finished rows."""
        return HostRows(valid, self._carry.shape[1], confidence, probabilities)


class HostRows:
    """Finished rows in the making.

    Args:
        valid: Where the map is wanted, shape (rows, columns).
        num_classes: Classes of the network.
        confidence: Whether the probability of the class is kept.
        probabilities: Whether every class's probability is kept.
    """

    def __init__(self, valid: BoolArray, num_classes: int, confidence: bool, probabilities: bool) -> None:
        rows, width = valid.shape
        self.valid = np.ascontiguousarray(valid)
        self.classes = np.empty((rows, width), np.uint8)
        self.confidence = np.empty((rows, width) if confidence else (0, 0), np.float32)
        self.probabilities = np.empty((num_classes, rows, width) if probabilities else (0, 0, 0), np.float32)

    def result(self) -> tuple[NDArray[np.uint8], FloatArray | None, FloatArray | None]:
        """Return classes, confidence and probabilities; None for what is not kept."""
        return (
            self.classes,
            self.confidence if self.confidence.size else None,
            self.probabilities if self.probabilities.size else None,
        )


@kernel
def add_window(
    pixels: Any,
    logits: bool,
    row_weight: Any,
    col_weight: Any,
    side: Any,
    carry: Any,
    start: int,
    count: int,
    waiting: int,
    carried: int,
    valid: Any,
    classes: Any,
    confidence: Any,
    probabilities: Any,
    constants: Any,
) -> None:
    """Add a window and take out what it completes; see :meth:`HostSums._add`.

    The larger of two values goes to an array that neither of them is in: a value that stays where it is becomes a
    masked store, which takes some processors twenty times as long as a plain one.
    """
    num_classes, size, _ = pixels.shape
    finished = classes.shape[0]
    keep_confidence, keep_probabilities = confidence.size > 0, probabilities.size > 0
    sums, best, better = np.empty(size, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    factors, scores = np.empty(size, np.float32), np.empty((num_classes, size), np.float32)
    winner, leader = np.empty(count, np.int32), np.empty(count, np.int32)
    scratch = np.empty((3, size), np.float32)
    stop, rest = start + count, sums[count:]
    for y in range(size):
        weight = row_weight[y]
        for x in range(size):
            factors[x] = weight * col_weight[x]
        if logits:
            _exponentials(pixels, y, scores, factors, scratch, constants)
        for k in range(num_classes):
            window, left = scores[k] if logits else pixels[k, y], side[y, k]
            for x in range(size):
                sums[x] = window[x] * factors[x]
            for x in range(waiting):
                sums[x] += left[x]
            for x in range(size - count):
                left[x] = rest[x]
            if y < carried:
                above = carry[y, k, start:stop]
                for x in range(count):
                    sums[x] += above[x]
            if y >= finished:
                if y - finished < len(carry):
                    below = carry[y - finished, k, start:stop]
                    for x in range(count):
                        below[x] = sums[x]
                continue
            if keep_probabilities:
                target = probabilities[k, y, start:stop]
                for x in range(count):
                    target[x] = sums[x]
            if k == 0:
                for x in range(count):
                    best[x], winner[x] = sums[x], 0
            else:
                label = np.int32(k)
                for x in range(count):
                    new, old, before = sums[x], best[x], winner[x]  # all loaded first: the rest needs no branch
                    better[x] = new if new > old else old
                    leader[x] = label if new > old else before
                best, better = better, best
                winner, leader = leader, winner
        if y < finished:
            wanted, labels = valid[y, start:stop], classes[y, start:stop]
            for x in range(count):
                label = winner[x]
                labels[x] = label if wanted[x] else NODATA
            if keep_confidence:
                for x in range(count):
                    value = best[x]
                    confidence[y, start + x] = value if wanted[x] else np.nan
            if keep_probabilities:
                for k in range(num_classes):
                    for x in range(count):
                        if not wanted[x]:
                            probabilities[k, y, start + x] = np.nan


@functools.partial(kernel, fastmath={"contract"})  # a product and a sum in one instruction
def _exponentials(logits: Any, y: int, scores: Any, factors: Any, scratch: Any, constants: Any) -> None:
    """Write exp(logits - their maximum) of row ``y`` to ``scores`` and divide ``factors`` by their sum.

    exp(x) is 2^n exp(r) with n the integer nearest to x / ln 2 and r = x - n ln 2, and exp(r) its Taylor polynomial of
    degree 6; off by at most 2 units of the last place. Unlike a call of exp, this is done for eight values at once.
    The numbers it takes come as an argument: those that a compiler knows, it loads anew for every eight values.
    """
    num_classes, _, size = logits.shape
    least, per_ln2, shift, ln2_high, ln2_low, p6, p5, p4, p3, p2, one = constants
    top, spare, total = scratch[0], scratch[1], scratch[2]
    for x in range(size):
        top[x], total[x] = logits[0, y, x], 0
    for k in range(1, num_classes):
        values = logits[k, y]
        for x in range(size):
            new, old = values[x], top[x]
            spare[x] = new if new > old else old
        top, spare = spare, top
    for k in range(num_classes):
        values, result = logits[k, y], scores[k]
        for x in range(size):
            below = values[x] - top[x]
            below = below if below > least else least
            shifted = below * per_ln2 + shift
            power = shifted - shift
            rest = below - power * ln2_high
            rest = rest - power * ln2_low
            value = p6
            value = value * rest + p5
            value = value * rest + p4
            value = value * rest + p3
            value = value * rest + p2
            value = value * rest + one
            value = value * rest + one
            value = value * float_of_bits(np.int32(bits_of_float(shifted) << _EXPONENT))
            result[x] = value
            total[x] += value
    for x in range(size):
        factors[x] /= total[x]
