"""``geoasanet predict``: from two rasters and a checkpoint to a land-cover map."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch

from geoasanet.classes import ClassSchema
from geoasanet.device import Precision
from geoasanet.errors import ConfigError
from geoasanet.inference.rows import MissingSar
from geoasanet.models.checkpoint import Checkpoint
from geoasanet.progress import Progress, silent
from geoasanet.raster.aoi import Bounds
from geoasanet.raster.faults import OnError
from geoasanet.raster.scaling import SarScale
from geoasanet.raster.scene import default_map_path
from geoasanet.tools.cluster import Cluster, connect
from geoasanet.tools.dryrun import DryRun
from geoasanet.tools.predictdry import rehearse
from geoasanet.tools.predictjob import prepare
from geoasanet.tools.predictrun import run
from geoasanet.tools.stac import SUFFIX

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What :func:`predict` made."""

    map: Path
    """Class map, Cloud Optimized GeoTIFF."""
    checkpoint: str
    """The checkpoint's path or packaged name, or "model" for a module that was passed in."""
    classes: ClassSchema
    class_pixels: dict[str, int]
    """Mapped pixels of each class."""
    nodata_pixels: int
    """Pixels of the map without a class."""
    filled_pixels: int
    """Mapped pixels that had no SAR data (``missing_sar="fill"``)."""
    windows: int
    """Windows that cover the map, those without a valid pixel included."""
    seconds: float
    confidence: Path | None = None
    probabilities: Path | None = None
    polygons: Path | None = None
    quicklook: Path | None = None
    stac: Path | None = None
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        data = {**asdict(self), "classes": list(self.classes.names)}
        return {key: str(value) if isinstance(value, Path) else value for key, value in data.items()}


class PredictOptions(TypedDict, total=False):
    """The options of :func:`predict`, described there."""

    checkpoint: PathLike | Checkpoint | None
    model: torch.nn.Module | None
    classes: ClassSchema | Sequence[str] | None
    out: PathLike | None
    window: int | None
    overlap: int | None
    blend: str
    batch_size: int | Literal["auto"]
    device: str
    gpus: int
    scheduler: PathLike | Cluster | None
    precision: Precision
    compile: bool
    tta: bool
    aoi: PathLike | None
    bbox: Bounds | None
    bbox_crs: str | None
    probabilities: PathLike | None
    confidence: PathLike | None
    rgb_bands: Sequence[int] | None
    sar_bands: Sequence[int] | None
    sar_scale: SarScale
    missing_sar: MissingSar
    on_error: OnError
    vectorize: PathLike | None
    quicklook: PathLike | None
    stac: bool
    resume: bool
    overwrite: bool
    progress: Progress


@overload
def predict(
    rgb: PathLike, sar: PathLike, *, dry_run: Literal[False] = False, **options: Unpack[PredictOptions]
) -> PredictResult: ...


@overload
def predict(rgb: PathLike, sar: PathLike, *, dry_run: Literal[True], **options: Unpack[PredictOptions]) -> DryRun: ...


def predict(
    rgb: PathLike,
    sar: PathLike,
    *,
    checkpoint: PathLike | Checkpoint | None = None,
    model: torch.nn.Module | None = None,
    classes: ClassSchema | Sequence[str] | None = None,
    out: PathLike | None = None,
    window: int | None = None,
    overlap: int | None = None,
    blend: str = "hann",
    batch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    gpus: int = 1,
    scheduler: PathLike | Cluster | None = None,
    precision: Precision = "auto",
    compile: bool = False,
    tta: bool = False,
    aoi: PathLike | None = None,
    bbox: Bounds | None = None,
    bbox_crs: str | None = None,
    probabilities: PathLike | None = None,
    confidence: PathLike | None = None,
    rgb_bands: Sequence[int] | None = None,
    sar_bands: Sequence[int] | None = None,
    sar_scale: SarScale = "auto",
    missing_sar: MissingSar = "mask",
    on_error: OnError = "fail",
    vectorize: PathLike | None = None,
    quicklook: PathLike | None = None,
    stac: bool = False,
    resume: bool = True,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> PredictResult | DryRun:
    """Map a scene and write the map as a Cloud Optimized GeoTIFF on the RGB raster's grid.

    Softmax probabilities of overlapping windows are averaged with strictly positive weights; the class of a pixel
    is that of the largest average. Pixels without data are 255 (nodata). Memory depends on the scene's width and the
    window, not on its height.

    Args:
        rgb: Optical raster: path, URL or GDAL virtual path; several files of one grid as ``"a.tif;b.tif"`` or a pattern
            such as ``"scenes/*_TCI.tif"``.
        sar: SAR raster on any grid over the same ground; several files likewise.
        checkpoint: File, run folder, packaged name, or a loaded checkpoint. None takes
            ``runs/latest/best.safetensors``, else the packaged ``s1s2-10m``.
        model: Instead of a checkpoint, a module ``(rgb (N,3,H,W), sar (N,C,H,W)) -> logits (N,K,H,W)`` that takes
            raw pixel values as float32; pixels without data are 0. Needs ``classes``.
        classes: Class schema or class names of ``model``.
        out: The map; ``<stem of rgb>_landcover.tif`` in the current folder if None.
        window: Side of the windows in pixels; the checkpoint's own if None (256 for ``model``).
        overlap: Least overlap of neighbouring windows in pixels; 64, or a quarter of a window below 256, if None.
        blend: Window weight: "hann", "gaussian" or "flat".
        batch_size: Windows at a time, or "auto".
        device: "auto", "cpu", "cuda", "cuda:1", …
        gpus: Worker processes, one for each CUDA device; on CPU they share the cores. The map does not depend on it.
        scheduler: Run the network on a Dask cluster: the address of its scheduler, its scheduler file, or "local" for
            ``gpus`` processes on this machine. The map is the same. Workers must see the inputs and the checkpoint.
        precision: "auto", "fp32", "bf16" or "fp16"; "auto" is fp32 on CPU, but compiled bf16 for large scenes on
            processors with bf16 instructions, and bf16 (else fp16) on CUDA.
        compile: Compile the network first.
        tta: Average over the eight symmetries of the square (eight times the work).
        aoi: Vector file; only pixels whose centre lies in one of its polygons are mapped, and the output covers
            their bounding box. Its pixels equal those of the whole map.
        bbox: Left, bottom, right, top; the same for a box. Not together with ``aoi``.
        bbox_crs: CRS of ``bbox``, for instance "EPSG:4326"; the RGB raster's if None.
        probabilities: Also write every class's probability here (float32, one band per class).
        confidence: Also write the probability of the mapped class here (float32).
        rgb_bands: Numbers (from 1) of the red, green and blue bands.
        sar_bands: Numbers of the SAR bands.
        sar_scale: What the SAR values are: "auto", "linear", "db", or "none" to take them as they come.
        missing_sar: "mask": pixels without SAR become nodata; "fill": they are mapped from RGB alone.
        on_error: What a block of an input is that cannot be read: "fail", the end of the run, or "nodata", pixels
            without data, of which a warning tells.
        vectorize: Also write polygons here, see :func:`geoasanet.vectorize`.
        quicklook: Also write a PNG of RGB, SAR, map and confidence here.
        stac: Also write a STAC Item of all outputs beside the map, ``<stem of the map>.stac.json``.
        resume: Go on with an unfinished run of the same description.
        overwrite: Replace existing outputs.
        dry_run: Only check everything and time a few windows; nothing is written.
        progress: Told how far the work is.

    Returns:
        Paths, pixel counts, seconds and warnings; with ``dry_run`` what would be done.

    Raises:
        GeoASANetError: If an input, an option, the checkpoint or an output is at fault; see its subclasses.
    """
    started = time.monotonic()
    if dry_run and scheduler is not None:
        raise ConfigError("--dry-run times windows in this process.", "Leave out --scheduler.")
    with contextlib.ExitStack() as stack:
        if scheduler is None or isinstance(scheduler, Cluster):
            cluster = scheduler
        else:
            cluster = stack.enter_context(connect(os.fspath(scheduler), gpus))
        job = prepare(
            rgb,
            sar,
            checkpoint=checkpoint,
            model=model,
            classes=classes,
            out=out,
            window=window,
            overlap=overlap,
            blend=blend,
            batch_size=batch_size,
            device=device,
            gpus=gpus,
            precision=precision,
            compile=compile,
            tta=tta,
            aoi=aoi,
            bbox=bbox,
            bbox_crs=bbox_crs,
            extras={
                "confidence": confidence,
                "probabilities": probabilities,
                "polygons": vectorize,
                "quicklook": quicklook,
                "stac": Path(out or default_map_path(rgb)).with_suffix(SUFFIX) if stac else None,
            },
            rgb_bands=rgb_bands,
            sar_bands=sar_bands,
            sar_scale=sar_scale,
            missing_sar=missing_sar,
            on_error=on_error,
            resume=resume,
            overwrite=overwrite,
            cluster=cluster,
        )
        if dry_run:
            return rehearse(job, resume=resume)
        done = run(job, resume=resume, progress=progress)
    names = job.network.classes.names
    return PredictResult(
        map=job.out,
        checkpoint=job.network.label,
        classes=job.network.classes,
        class_pixels={name: int(done.pixels[i]) for i, name in enumerate(names)},
        nodata_pixels=int(done.pixels[len(names) :].sum()),
        filled_pixels=done.filled,
        windows=len(job.layout.plan),
        seconds=time.monotonic() - started,
        confidence=job.extras.get("confidence"),
        probabilities=job.extras.get("probabilities"),
        polygons=job.extras.get("polygons"),
        quicklook=job.extras.get("quicklook"),
        stac=job.extras.get("stac"),
        warnings=(*job.notes, *done.notes),
    )
