"""``geoasanet predict``: from two rasters and a checkpoint to a land-cover map."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import geoasanet
from geoasanet.classes import ClassSchema
from geoasanet.device import Precision, choose_device, choose_precision
from geoasanet.errors import ConfigError, GeoASANetError
from geoasanet.files import check_output
from geoasanet.inference.arithmetic import Arithmetic, choose_arithmetic
from geoasanet.inference.blend import BLENDS
from geoasanet.inference.lanes import LanePlan
from geoasanet.inference.mapping import MapJob, MapLayout, map_into
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.rows import MissingSar
from geoasanet.inference.workers import WorkerTask, run_workers, share_rows
from geoasanet.models.checkpoint import Checkpoint
from geoasanet.progress import Progress, silent
from geoasanet.raster.aoi import Bounds
from geoasanet.raster.cog import RowSpool
from geoasanet.raster.scaling import SarScale
from geoasanet.raster.scene import Scene, default_map_path
from geoasanet.tools.journal import file_stamp, open_journal, partial_folder
from geoasanet.tools.network import MapNetwork, check_bands, load_network, origin_notes, scaling_for, window_notes

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
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        data = {**asdict(self), "classes": list(self.classes.names)}
        return {key: str(value) if isinstance(value, Path) else value for key, value in data.items()}


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
    vectorize: PathLike | None = None,
    quicklook: PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> PredictResult:
    """Map a scene and write the map as a Cloud Optimized GeoTIFF on the RGB raster's grid.

    Softmax probabilities of overlapping windows are averaged with strictly positive weights; the class of a pixel
    is that of the largest average. Pixels without data are 255 (nodata). Memory depends on the scene's width and the
    window, not on its height.

    Args:
        rgb: Optical raster: path, URL or GDAL virtual path.
        sar: SAR raster on any grid over the same ground.
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
        vectorize: Also write polygons here, see :func:`geoasanet.vectorize`.
        quicklook: Also write a PNG of RGB, SAR, map and confidence here.
        resume: Go on with an unfinished run of the same description.
        overwrite: Replace existing outputs.
        progress: Told how far the work is.

    Returns:
        Paths, pixel counts, seconds and warnings.

    Raises:
        GeoASANetError: If an input, an option, the checkpoint or an output is at fault; see its subclasses.
    """
    started = time.monotonic()
    job_options = _check_options(blend, missing_sar, gpus, aoi, bbox, bbox_crs)
    out = default_map_path(rgb) if out is None else Path(out)
    extras = {
        "confidence": confidence,
        "probabilities": probabilities,
        "polygons": vectorize,
        "quicklook": quicklook,
    }
    paths = {name: Path(path) for name, path in extras.items() if path is not None}
    _check_outputs(out, paths, overwrite, rgb, sar)
    torch_device = choose_device(device)
    choose_precision(precision, torch_device)  # an impossible one is said before files are opened

    network = load_network(checkpoint, model, classes, window, sar_bands)
    size = network.window if window is None else window
    notes = origin_notes(network) + window_notes(network, size)
    sar_count = network.sar_count or 1
    with Scene.open(rgb, sar, rgb_bands=rgb_bands, sar_bands=sar_bands, sar_count=sar_count) as scene:
        check_bands(scene, network)
        scaling, more = scaling_for(scene, network, sar_scale)
        notes += more
        job = MapJob(
            rgb=str(rgb),
            sar=str(sar),
            rgb_bands=scene.rgb.source.bands,
            sar_bands=scene.sar.source.bands,
            scaling=scaling,
            window=size,
            overlap=min(64, size // 4) if overlap is None else overlap,
            keep_confidence=confidence is not None or quicklook is not None,
            keep_probabilities=probabilities is not None,
            **job_options,
        )
        layout = MapLayout.of(job, scene.grid, job.open_area(scene.grid))

    windows = len(layout.plan) * (8 if tta else 1)
    arithmetic = choose_arithmetic(precision, compile, torch_device, windows if network.compiles else 0)
    notes += [arithmetic.note] if arithmetic.note else []
    folder = partial_folder(out)
    description = _describe(job, network, arithmetic, torch_device.type, batch_size, tta)
    open_journal(folder, description, resume=resume)
    spool = RowSpool(folder, layout.grid, layout.crop.row)
    try:
        task = _Run(job, layout, network, spool, torch_device, arithmetic, batch_size, tta, progress)
        notes += task.run(gpus)
        pixels, filled = spool.counts()
        class_pixels = {name: int(pixels[i]) for i, name in enumerate(network.classes.names)}
        progress("Writing", 0, 1, "")
        tags = _tags(network, description)
        if "confidence" in paths:
            spool.write_confidence(paths["confidence"], tags)
        if "probabilities" in paths:
            spool.write_probabilities(paths["probabilities"], network.classes, tags)
        if "quicklook" in paths:
            spool.write_confidence(folder / "confidence.tif", tags)
        spool.write_map(out, network.classes, tags)
        progress("Writing", 1, 1, "")
        if "polygons" in paths:
            _vectorize(out, paths, overwrite, progress)
        if "quicklook" in paths:
            from geoasanet.tools.quicklook import quicklook as draw

            draw(
                paths["quicklook"],
                rgb=job.rgb,
                sar=job.sar,
                map_path=out,
                confidence=folder / "confidence.tif",
                classes=network.classes,
                class_pixels=class_pixels,
                rgb_bands=job.rgb_bands,
                sar_band=job.sar_bands[0],
                note=f"Mapped by {Path(network.label).name} with geoasanet {geoasanet.__version__}",
            )
    except GeoASANetError:
        if not spool.done():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    if filled:
        notes.append(f"{filled} pixels had no SAR data and were mapped from the optical bands alone.")
    return PredictResult(
        map=out,
        checkpoint=network.label,
        classes=network.classes,
        class_pixels=class_pixels,
        nodata_pixels=int(pixels[len(network.classes) :].sum()),
        filled_pixels=filled,
        windows=len(layout.plan),
        seconds=time.monotonic() - started,
        confidence=paths.get("confidence"),
        probabilities=paths.get("probabilities"),
        polygons=paths.get("polygons"),
        quicklook=paths.get("quicklook"),
        warnings=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """The long part of a prediction: filling the spool."""

    job: MapJob
    layout: MapLayout
    network: MapNetwork
    spool: RowSpool
    device: torch.device
    arithmetic: Arithmetic
    batch_size: int | Literal["auto"]
    tta: bool
    progress: Progress

    def run(self, gpus: int) -> list[str]:
        """Map what is not yet spooled, in this process or in ``gpus`` others; return warnings."""
        pending = self.layout.pending(self.spool)
        columns = len(self.layout.plan.columns)
        done = columns * (len(self.layout.plan.rows) - sum(map(len, pending)))
        total = len(self.layout.plan)

        def advance(windows: int) -> None:
            nonlocal done
            done += windows
            self.progress("Mapping", done, total, "windows")

        advance(0)
        if not pending:
            return []
        if gpus > 1:
            return run_workers(self._tasks(pending, gpus), advance)
        network = self.network
        predictor = Predictor(
            network.model,
            network.bands,
            len(network.classes),
            device=self.device,
            precision=self.arithmetic.precision,
            batch_size=self.batch_size,
            tta=self.tta,
            compile=self.arithmetic.compile,
            leave_softmax=True,
        )
        map_into(self.spool, self.job, predictor, pending, advance)
        return predictor.warnings

    def _tasks(self, pending: Sequence[range], gpus: int) -> list[WorkerTask]:
        if self.network.checkpoint is None:
            raise ConfigError("Several workers need a checkpoint file, found a model object.", "Save it first.")
        shares = share_rows(pending, gpus)
        if self.device.type == "cuda" and torch.cuda.device_count() < len(shares):
            raise ConfigError(
                f"--gpus {gpus} asks for {gpus} CUDA devices, {torch.cuda.device_count()} found.",
                "Lower --gpus, or add --device cpu.",
            )
        lanes = LanePlan.of_machine(len(shares)) if self.device.type == "cpu" else None
        return [
            WorkerTask(
                job=self.job,
                spool=self.spool.folder,
                grid=self.layout.grid,
                first_row=self.layout.crop.row,
                rows=share,
                checkpoint=self.network.checkpoint,
                device=f"cuda:{index}" if self.device.type == "cuda" else self.device.type,
                lanes=lanes,
                precision=self.arithmetic.precision,
                batch_size=None if self.batch_size == "auto" else self.batch_size,
                tta=self.tta,
                compile=self.arithmetic.compile,
            )
            for index, share in enumerate(shares)
        ]


def _check_options(
    blend: str, missing_sar: str, gpus: int, aoi: PathLike | None, bbox: Bounds | None, bbox_crs: str | None
) -> dict[str, Any]:
    """Return the options of :class:`MapJob` that pass unchanged."""
    if blend not in BLENDS:
        raise ConfigError(f"--blend {blend!r} is unknown; one of {', '.join(BLENDS)} is needed.")
    if missing_sar not in ("mask", "fill"):
        raise ConfigError(f"--missing-sar {missing_sar!r} is unknown; mask or fill is needed.")
    if gpus < 1:
        raise ConfigError(f"--gpus must be at least 1, found {gpus}.")
    if aoi is not None and bbox is not None:
        raise ConfigError("--aoi and --bbox exclude each other.", "Give one of them.")
    return {
        "blend": blend,
        "missing_sar": missing_sar,
        "aoi": None if aoi is None else str(aoi),
        "bbox": None if bbox is None else (bbox[0], bbox[1], bbox[2], bbox[3]),
        "bbox_crs": bbox_crs,
    }


def _check_outputs(out: Path, paths: dict[str, Path], overwrite: bool, rgb: PathLike, sar: PathLike) -> None:
    inputs = (str(rgb), str(sar))
    everything = [out, *paths.values()]
    for path in everything:
        if everything.count(path) > 1:
            raise ConfigError(f"Two outputs have the same name: {path}.", "Name them differently.")
        check_output(path, overwrite=overwrite, inputs=inputs)


def _describe(
    job: MapJob,
    network: MapNetwork,
    arithmetic: Arithmetic,
    device: str,
    batch_size: int | str,
    tta: bool,
) -> dict[str, Any]:
    """Return all that decides the map's pixels."""
    options = asdict(job)
    options.pop("rgb"), options.pop("sar")
    return {
        "rgb": file_stamp(job.rgb),
        "sar": file_stamp(job.sar),
        "options": options,
        "network": network.identity,
        "classes": list(network.classes.names),
        "device": device,
        "precision": arithmetic.precision,
        "batch_size": batch_size,
        "tta": tta,
        "compile": arithmetic.compile,
        "version": geoasanet.__version__,
    }


def _tags(network: MapNetwork, description: dict[str, Any]) -> dict[str, str]:
    options = {**description["options"], "precision": description["precision"], "tta": description["tta"]}
    return {
        "GEOASANET_VERSION": geoasanet.__version__,
        "GEOASANET_CHECKPOINT": network.identity.get("sha256", network.label),
        "GEOASANET_MODEL": network.identity["model"],
        "GEOASANET_OPTIONS": json.dumps(options, sort_keys=True),
        "TIFFTAG_SOFTWARE": f"geoasanet {geoasanet.__version__}",
    }


def _vectorize(out: Path, paths: dict[str, Path], overwrite: bool, progress: Progress) -> None:
    from geoasanet.tools.vectorize import vectorize

    vectorize(out, out=paths["polygons"], overwrite=overwrite, progress=progress)
