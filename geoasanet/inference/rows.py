"""Rows of windows of a scene, each pixel read and decoded once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoasanet.inference.threads import prefetch
from geoasanet.raster.scaling import Scaling
from geoasanet.raster.scene import Scene
from geoasanet.sample import BoolArray, Sample
from geoasanet.windows import RowPlan, Window

MissingSar = Literal["mask", "fill"]
"""What becomes of pixels with optical but no SAR data: no class, or a class from the optical bands alone."""

RGB_VALID, SAR_VALID, WANTED = 1, 2, 4
"""Flags of a pixel: the optical raster has data, the SAR raster has data, the map is to have a class."""

_COMPLETE = RGB_VALID | SAR_VALID | WANTED

_STRIPS_AHEAD = 4
"""What is read ahead: of a scene of moderate width, more than the next row of windows takes."""

_Chunk = tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class WindowRow:
    """Both sensors over one row of windows."""

    index: int
    """Row of windows."""
    plan: RowPlan
    rgb: NDArray[Any]
    """Shape (3, size, width)."""
    sar: NDArray[Any]
    """Shape (bands, size, width)."""
    flags: NDArray[np.uint8]
    """Shape (size, width). Sums of :data:`RGB_VALID`, :data:`SAR_VALID` and :data:`WANTED`."""

    def samples(self) -> Iterator[Sample | None]:
        """Yield each window from left to right, as views of the row; None where no pixel is wanted."""
        tiling = self.plan.tiling
        everywhere = np.ones((tiling.size, tiling.size), bool)
        complete = bool(self.flags.min() == _COMPLETE)
        for column in self.plan.columns:
            start = tiling.cols[column] - self.plan.first_col
            cut = np.s_[..., start : start + tiling.size]
            flags = self.flags[cut]
            window = Window(tiling.rows[self.index], tiling.cols[column], tiling.size, tiling.size)
            if not (complete or (flags & WANTED).any()):
                yield None
                continue
            rgb, sar = self.rgb[cut], self.sar[cut]
            if complete or (flags == _COMPLETE).all():
                yield Sample(window, rgb, sar, everywhere, everywhere)
            else:
                yield Sample(window, rgb, sar, (flags & RGB_VALID) != 0, (flags & SAR_VALID) != 0)


def read_rows(
    scene: Scene,
    plan: RowPlan,
    *,
    scaling: Scaling,
    missing_sar: MissingSar = "mask",
    area: Callable[[Window], BoolArray] | None = None,
) -> Generator[WindowRow, None, None]:
    """Yield the rows of windows of ``plan`` from top to bottom, reading ahead in other threads.

    Args:
        scene: The open scene.
        plan: The windows to read.
        scaling: Conversion of the SAR values.
        missing_sar: Whether pixels without SAR data are wanted.
        area: Tells for a window which pixels lie in the area of interest; all do if None.
    """
    chunks = prefetch(_chunks(scene, plan, scaling, missing_sar, area), depth=_STRIPS_AHEAD)
    with contextlib.closing(chunks):
        yield from _assemble(chunks, plan)


def _assemble(chunks: Iterable[_Chunk], plan: RowPlan) -> Iterator[WindowRow]:
    """Yield rows of windows put together from consecutive strips of the scene."""
    size, rows = plan.tiling.size, [plan.tiling.rows[i] for i in plan.rows]
    buffers: list[NDArray[Any]] = []
    filled = 0  # rows of the buffers that hold the present row of windows
    top = rows[0]
    position = 0
    for chunk in chunks:
        count = chunk[2].shape[0]
        if not buffers:
            buffers = [np.empty((*part.shape[:-2], size, plan.width), part.dtype) for part in chunk]
        done = 0
        while done < count:
            take = min(count - done, size - filled)
            for buffer, part in zip(buffers, chunk, strict=True):
                buffer[..., filled : filled + take, :] = part[..., done : done + take, :]
            done, filled = done + take, filled + take
            if filled < size:
                break
            yield WindowRow(plan.rows[position], plan, *buffers)
            position += 1
            if position == len(rows):
                return
            step = rows[position] - top
            top = rows[position]
            filled = size - step
            buffers = [_moved_up(buffer, step) for buffer in buffers]


def _moved_up(pixels: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return an array like ``pixels`` that begins with what they hold from ``rows`` on."""
    moved = np.empty_like(pixels)
    moved[..., : pixels.shape[-2] - rows, :] = pixels[..., rows:, :]
    return moved


def _chunks(
    scene: Scene,
    plan: RowPlan,
    scaling: Scaling,
    missing_sar: MissingSar,
    area: Callable[[Window], BoolArray] | None,
) -> Iterator[_Chunk]:
    """Yield consecutive full-width strips of the scene: RGB, SAR, flags; the sensors are read in a thread each.

    Neither is read ahead of the other: it would begin a row of blocks while the other's are still needed, and the cache
    would drop those, which were used longer ago.
    """
    tiling = plan.tiling
    start, stop = tiling.rows[plan.rows[0]], tiling.rows[plan.rows[-1]] + tiling.size
    strips = [Window(rows.start, plan.first_col, len(rows), plan.width) for rows in scene.strips(start, stop)]
    with ThreadPoolExecutor(1, "geoasanet-read") as other:
        for strip in strips:
            as_read = other.submit(scene.read_layer, scene.sar, strip)
            rgb, rgb_valid = scene.read_layer(scene.rgb, strip)
            sar, sar_valid = scaling.apply(*as_read.result())
            wanted = rgb_valid & sar_valid if missing_sar == "mask" else rgb_valid
            if area is not None:
                wanted = wanted & area(strip)
            if wanted.all() and sar_valid.all():
                flags = np.full(wanted.shape, _COMPLETE, np.uint8)
            else:
                flags = rgb_valid * np.uint8(RGB_VALID)
                flags += sar_valid * np.uint8(SAR_VALID)
                flags += wanted * np.uint8(WANTED)
            yield rgb, sar, flags
