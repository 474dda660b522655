"""A map, row by row: scene → windows → network → blended rows → spool.

One description of the work, :class:`MapJob`, serves a run in this process and one in several: each worker takes a
run of rows of windows and spools what it finishes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoasanet.classes import NODATA
from geoasanet.inference.blend import RowBlender
from geoasanet.inference.lentrows import LentRows
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.rows import SAR_VALID, WANTED, MissingSar, read_rows
from geoasanet.inference.threads import Background, prefetch
from geoasanet.raster.aoi import AreaOfInterest, Bounds
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.faults import OnError, ReadFaults, faults_for
from geoasanet.raster.grid import Grid
from geoasanet.raster.pieces import PieceBox
from geoasanet.raster.remote import READ_OPTIONS
from geoasanet.raster.scaling import Scaling
from geoasanet.raster.scene import Scene
from geoasanet.sample import RowBand, Sample
from geoasanet.windows import RowPlan, Tiling, Window

if TYPE_CHECKING:
    from geoasanet.raster.resample import Resampler


@dataclass(frozen=True, slots=True)
class MapJob:
    """What to map and how; plain values only, so that it can be sent to another process."""

    rgb: str
    sar: str
    rgb_bands: tuple[int, ...]
    sar_bands: tuple[int, ...]
    scaling: Scaling
    missing_sar: MissingSar
    window: int
    """Side of the windows, pixels."""
    overlap: int
    """Least overlap of neighbouring windows, pixels."""
    blend: str
    aoi: str | None = None
    """Vector file of the area of interest."""
    bbox: Bounds | None = None
    """Left, bottom, right, top of the area of interest."""
    bbox_crs: str | None = None
    keep_confidence: bool = False
    keep_probabilities: bool = False
    on_error: OnError = "fail"
    """What a block of the inputs is that cannot be read."""

    def open_scene(self, faults: ReadFaults | None, resampler: Resampler | None = None) -> Scene:
        """Open the scene; ``faults`` takes the blocks that cannot be read, ``resampler`` warps."""
        return Scene.open(
            self.rgb,
            self.sar,
            rgb_bands=self.rgb_bands,
            sar_bands=self.sar_bands,
            faults=faults,
            resampler=resampler,
        )

    def open_area(self, grid: Grid) -> AreaOfInterest | None:
        """Return the area of interest on ``grid``, None where the whole scene is wanted."""
        if self.aoi is not None:
            return AreaOfInterest.from_file(grid, self.aoi)
        if self.bbox is not None:
            return AreaOfInterest.from_bounds(grid, self.bbox, self.bbox_crs)
        return None


@dataclass(frozen=True, slots=True)
class MapLayout:
    """Where a job's windows and its output lie on the scene's grid."""

    crop: Window
    """Pixels of the scene that the output covers."""
    grid: Grid
    """The output's grid."""
    plan: RowPlan
    """All windows that touch the output."""

    @classmethod
    def of(cls, job: MapJob, grid: Grid, area: AreaOfInterest | None) -> MapLayout:
        """Return the layout of ``job`` on the scene's ``grid``."""
        crop = area.window if area is not None else grid.window
        tiling = Tiling.over(grid.height, grid.width, size=job.window, overlap=job.overlap)
        return cls(crop, grid.crop(crop), tiling.touching(crop))

    def output_rows(self, index: int) -> range:
        """Return the scene rows of the output that row of windows ``index`` finishes; may be empty."""
        finished = self.plan.tiling.finished_rows(index)
        return range(max(finished.start, self.crop.row), min(finished.stop, self.crop.row_stop))

    def pending(self, spool: RowSpool) -> list[range]:
        """Return the runs of rows of windows whose output rows are not yet in ``spool``."""
        done = spool.done()
        missing = [
            i
            for i in self.plan.rows
            if (rows := self.output_rows(i)) and done.get(rows.start - self.crop.row) != len(rows)
        ]
        return runs(missing)


def runs(numbers: Sequence[int]) -> list[range]:
    """Return ascending ``numbers`` as ranges of consecutive ones."""
    result: list[range] = []
    for number in numbers:
        if result and result[-1].stop == number:
            result[-1] = range(result[-1].start, number + 1)
        else:
            result.append(range(number, number + 1))
    return result


def map_into(
    spool: RowSpool | PieceBox,
    job: MapJob,
    predictor: Predictor,
    rows: Sequence[range],
    advance: Callable[[int], None],
    lent: LentRows | None = None,
) -> None:
    """Map runs of rows of windows and spool the finished rows.

    Args:
        spool: Takes the finished rows.
        job: What to map.
        predictor: Runs the network.
        rows: Runs of rows of windows, from :meth:`MapLayout.pending`.
        advance: Called with the number of windows that were done.
        lent: Predictions that are shared with other workers.

    Raises:
        GeoASANetError: If a file cannot be read or written, or the network fails.
    """
    faults = faults_for(job.on_error)

    def keep(band: RowBand) -> None:
        if faults is not None:
            spool.keep_faults(band.row, faults)
        spool.write(band)

    with (
        job.open_scene(faults, _resampler_on(predictor.device)) as scene,
        rasterio.Env(GDAL_CACHEMAX=scene.block_cache_bytes, **READ_OPTIONS),
    ):
        area = job.open_area(scene.grid)
        layout = MapLayout.of(job, scene.grid, area)
        with Background(keep, depth=1) as writer:
            for run in rows:
                for band in map_rows(scene, job, layout, area, predictor, run, advance, lent):
                    writer.put(band)


def _resampler_on(device: torch.device) -> Resampler | None:
    """Return what warps for a network on ``device``; None for the CPU's own."""
    if device.type != "cuda":
        return None
    from geoasanet.inference.devicewarp import DeviceResampler  # loads numba

    return DeviceResampler(device)


def map_rows(
    scene: Scene,
    job: MapJob,
    layout: MapLayout,
    area: AreaOfInterest | None,
    predictor: Predictor,
    rows: range,
    advance: Callable[[int], None],
    lent: LentRows | None = None,
) -> Iterator[RowBand]:
    """Yield the output rows that the rows of windows ``rows`` finish."""
    lent = lent or LentRows.none()
    plan = layout.plan.leading_to(rows)
    blender = RowBlender(
        plan,
        predictor.num_classes,
        job.blend,
        device=predictor.device,
        keep_confidence=job.keep_confidence,
        keep_probabilities=job.keep_probabilities,
        logits=predictor.yields_logits,
    )
    mask = area.mask if area is not None else None
    read: deque[tuple[NDArray[np.uint8], Iterator[Tensor | None] | None]] = deque()

    def samples() -> Generator[Sample | None, None, None]:
        pixels = read_rows(scene, plan, scaling=job.scaling, missing_sar=job.missing_sar, area=mask)
        if predictor.device.type != "cpu":
            pixels = prefetch(pixels, depth=2)  # a device does not wait while a row is put together
        with contextlib.closing(pixels):
            for row in pixels:
                known = lent.lent(row.index) if row.index in rows else None
                read.append((row.flags[: len(plan.tiling.finished_rows(row.index))], known))
                yield from row.samples() if known is None else itertools.repeat(None, len(plan.columns))

    # One run for all rows: the network does not wait at the end of each. It is ahead of what is blended here.
    # Both are closed, whatever happens: reading threads must not outlive the files.
    with contextlib.closing(samples()) as given, contextlib.closing(predictor.run(given)) as predictions:
        for index in plan.rows:
            first = next(predictions)  # before it, the row has been read
            row = itertools.chain([first], itertools.islice(predictions, len(plan.columns) - 1))
            flags, known = read.popleft()
            if known is not None:  # nothing was run for it
                band = _blend(blender, index, map(_second, row, known), flags, layout)
            elif index in rows:
                band = _blend(blender, index, row, flags, layout)
            else:
                with lent.lending(index) as keep:
                    band = _blend(blender, index, map(keep, row), flags, layout)
            advance(len(plan.columns) if index in rows else 0)
            if band is not None and index in rows:
                yield band


def _second(_: Tensor | None, prediction: Tensor | None) -> Tensor | None:
    return prediction


def _blend(
    blender: RowBlender,
    index: int,
    predictions: Iterator[Tensor | None],
    flags: NDArray[np.uint8],
    layout: MapLayout,
) -> RowBand | None:
    """Return what row of windows ``index`` finishes of the output; ``flags`` are those of the rows it finishes."""
    finished = layout.plan.tiling.finished_rows(index)
    classes, confidence, probabilities = blender.add_row(index, predictions, (flags & WANTED) != 0)
    output = layout.output_rows(index)
    if not output:
        return None
    shift = layout.crop.col - layout.plan.first_col
    cut = np.s_[output.start - finished.start : output.stop - finished.start, shift : shift + layout.crop.width]
    classes = classes[cut]
    without_sar = 0
    if (flags & SAR_VALID).min(initial=SAR_VALID) == 0:
        without_sar = int(np.count_nonzero((classes != NODATA) & ((flags[cut] & SAR_VALID) == 0)))
    return RowBand(
        output.start,
        classes,
        confidence[cut] if confidence is not None else None,
        probabilities[:, cut[0], cut[1]] if probabilities is not None else None,
        without_sar,
    )
