"""``geoasanet demo``: makes a synthetic scene, maps it, and shows how close the map is to the known truth."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from geoasanet.classes import NODATA
from geoasanet.errors import CheckpointError, ConfigError, OutputError
from geoasanet.files import check_output
from geoasanet.metrics import Metrics, confusion
from geoasanet.models.header import read_checkpoint_header
from geoasanet.progress import Progress, silent
from geoasanet.raster import figure, preview
from geoasanet.raster.figure import Panel
from geoasanet.raster.grid import Grid
from geoasanet.raster.synthetic_scene import ScenePaths, scene_paths, write_scene
from geoasanet.synthetic import CLASSES, Landscape, generate_landscape
from geoasanet.tools.checkpoints import packaged_checkpoints
from geoasanet.tools.predict import predict
from geoasanet.tools.vectorize import vectorize

CHECKPOINT = "demo"
"""Name of the packaged checkpoint that the demo uses, and that no other command takes by itself."""
NOTE = (
    "The scene and the checkpoint are synthetic: drawn and trained by geoasanet itself. "
    "These figures say nothing about real scenes."
)
MIN_AREA_M2 = 1000.0
"""Polygons smaller than this are merged into a neighbour, square metres."""
PANEL_PX, ZOOM = 510, 3
"""Side of the picture's panels at most, pixels; in the lower ones a pixel of the scene is ZOOM × ZOOM pixels."""
_STRIP_ROWS = 512


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What :func:`demo` made."""

    scene: ScenePaths
    """The synthetic scene and its exact labels."""
    map: Path
    """Class map."""
    confidence: Path
    """Probability of the mapped class."""
    polygons: Path
    """The map's polygons."""
    picture: Path
    """PNG of optical image, SAR image, map and truth."""
    polygon_count: int
    """Number of polygons."""
    metrics: Metrics
    """Accuracy of the map."""
    cloud_accuracy: float
    """Overall accuracy where clouds hide the ground; NaN without clouds."""
    cloud_share: float
    """Share of the scene where clouds hide the ground."""
    seed: int
    size: int
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        outputs = {"rgb": self.scene.rgb, "sar": self.scene.sar, "labels": self.scene.labels}
        outputs |= {"map": self.map, "confidence": self.confidence, "polygons": self.polygons}
        outputs |= {"picture": self.picture}
        return {
            "note": NOTE,
            "seed": self.seed,
            "size": self.size,
            **{name: str(path) for name, path in outputs.items()},
            "polygon_count": self.polygon_count,
            "metrics": self.metrics.to_dict(CLASSES.names),
            "cloud_share": self.cloud_share,
            "cloud_accuracy": None if np.isnan(self.cloud_accuracy) else self.cloud_accuracy,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }


def demo(
    out: str | os.PathLike[str] = "geoasanet-demo",
    *,
    seed: int = 7,
    size: int = 1024,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> DemoResult:
    """Make a synthetic scene in the folder ``out`` and run the whole chain on it.

    Args:
        out: Folder for everything that is written; made if missing.
        seed: Seed of the landscape.
        size: Height and width of the optical image, pixels of 10 m.
        device: See :func:`geoasanet.predict`.
        overwrite: Replace what an earlier demo left in ``out``.
        progress: Told how far the work is.

    Returns:
        Paths, accuracy, seconds.

    Raises:
        ConfigError: If ``seed`` or ``size`` is out of range.
        OutputError: If the outputs cannot be written, or exist and ``overwrite`` is false.
        CheckpointError: If this installation lacks the demo's checkpoint.
    """
    started = time.monotonic()
    folder = Path(out)
    checkpoint, warnings = _checkpoint(seed)
    if not 256 <= size <= 4096:
        raise ConfigError(f"The demo's --size must be 256 to 4096 pixels, found {size}.")
    paths = scene_paths(folder)
    made = {name: folder / f"demo_{name}" for name in ("landcover.tif", "confidence.tif", "polygons.gpkg")}
    map_path, confidence, polygons = made.values()
    picture = folder / "demo.png"
    _make_folder(folder)
    for path in (paths.rgb, paths.sar, paths.labels, *made.values(), picture):
        check_output(path, overwrite=overwrite)

    progress("Making scene", 0, 1, "")
    landscape = generate_landscape(seed, size, size)
    write_scene(landscape, folder, overwrite=overwrite)
    progress("Making scene", 1, 1, "")
    mapped = predict(
        paths.rgb,
        paths.sar,
        checkpoint=checkpoint,
        out=map_path,
        confidence=confidence,
        device=device,
        overwrite=overwrite,
        progress=progress,
    )
    outlined = vectorize(
        map_path,
        out=polygons,
        min_area=MIN_AREA_M2,
        confidence=confidence,
        overwrite=overwrite,
        progress=progress,
    )
    metrics = compare(paths.labels, map_path)
    hidden = landscape.cloud > 0.9
    under_cloud = _metrics_where(hidden, landscape, map_path)
    result = DemoResult(
        scene=paths,
        map=map_path,
        confidence=confidence,
        polygons=polygons,
        picture=picture,
        polygon_count=outlined.polygons,
        metrics=metrics,
        cloud_accuracy=under_cloud.accuracy,
        cloud_share=float(hidden.mean()),
        seed=seed,
        size=size,
        seconds=0.0,
        warnings=(*warnings, *mapped.warnings, *outlined.warnings),
    )
    _draw(result, landscape)
    return replace(result, seconds=time.monotonic() - started)


def compare(labels: Path, class_map: Path) -> Metrics:
    """Return the accuracy of a demo map against its labels, where it is mapped; both lie on one grid."""
    total = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    with rasterio.open(labels) as truth, rasterio.open(class_map) as found:
        for row in range(0, truth.height, _STRIP_ROWS):
            strip = RasterioWindow(0, row, truth.width, min(_STRIP_ROWS, truth.height - row))
            pair = truth.read(1, window=strip), found.read(1, window=strip)
            total += confusion(*pair, len(CLASSES), NODATA, unmapped=NODATA)
    return Metrics.from_matrix(total)


def _metrics_where(where: NDArray[np.bool_], landscape: Landscape, class_map: Path) -> Metrics:
    with rasterio.open(class_map) as found:
        prediction = found.read(1)
    truth = np.where(where, landscape.labels, NODATA)
    return Metrics.from_matrix(confusion(truth, prediction, len(CLASSES), NODATA, unmapped=NODATA))


def _checkpoint(seed: int) -> tuple[Path, list[str]]:
    """Return the packaged checkpoint, and a warning if it was trained on ``seed``."""
    packaged = packaged_checkpoints()
    if CHECKPOINT not in packaged:
        raise CheckpointError(
            "This installation lacks the demo's checkpoint (geoasanet/checkpoints/demo.safetensors).",
            "Reinstall geoasanet, or train it: python scripts/train_demo.py",
        )
    seen = read_checkpoint_header(packaged[CHECKPOINT]).training.get("seeds") or [0, 0]
    if seen[0] <= seed < seen[1]:
        return packaged[CHECKPOINT], [f"The checkpoint was trained on seed {seed}; take another for a fair figure."]
    return packaged[CHECKPOINT], []


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"Output {folder} is a file, a folder is needed.", "Choose another with -o.")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Output folder {folder} cannot be made ({error.strerror or error}).", "Choose another with -o."
        ) from None


def _draw(result: DemoResult, landscape: Landscape) -> None:
    """Write the picture: the whole scene above, an enlarged part below."""
    paths, side = result.scene, min(PANEL_PX, result.size)
    whole = preview.preview_grid(paths.rgb, side)
    full = preview.preview_grid(paths.rgb, result.size)
    factor = result.size / side
    detail = side // ZOOM
    row, col = _choose_detail(landscape, detail)
    box = (int(row / factor), int(col / factor), int(detail / factor), int(detail / factor))
    part = Grid(full.crs, full.transform @ full.transform.translation(col, row), detail, detail)
    titles = ("Optical (RGB)", "SAR (dB, warped)", "Map by ASANet", "Truth")
    panels = []
    for grid, times, outline in ((whole, 1, box), (part, ZOOM, None)):
        pixel_m = landscape.pixel_m * (factor if times == 1 else 1 / times)
        pictures = (
            preview.read_rgb(paths.rgb, grid),
            preview.read_gray(paths.sar, grid),
            figure.colorize(preview.read_classes(result.map, grid), CLASSES),
            figure.colorize(preview.read_classes(paths.labels, grid), CLASSES),
        )
        for index, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
            shown = figure.enlarge(picture, times)
            text = title if times == 1 else f"Detail, {detail * landscape.pixel_m / 1000:g} km"
            panels.append(Panel(text, shown, outline, pixel_m if index == 0 else None))
    metrics = result.metrics
    total = max(int(metrics.matrix.sum()), 1)
    shares = metrics.matrix.sum(axis=0)[: len(CLASSES)] / total
    cloud = ""
    if not np.isnan(result.cloud_accuracy):
        cloud = f", {100 * result.cloud_accuracy:.1f} % where clouds hide the ground ({100 * result.cloud_share:.0f} %)"
    figure.render_panels(
        panels,
        CLASSES,
        result.picture,
        title=f"geoasanet demo: a synthetic landscape mapped (seed {result.seed})",
        footer=(
            f"mIoU {100 * metrics.mean_iou:.1f} %, overall accuracy {100 * metrics.accuracy:.1f} %{cloud}. "
            f"Legend: share of the mapped area.\n{NOTE}"
        ),
        shares=dict(zip(CLASSES.names, shares.tolist(), strict=True)),
        columns=4,
    )


def _choose_detail(landscape: Landscape, side: int) -> tuple[int, int]:
    """Return row and column of the part with the most classes, half under clouds."""
    best, place = -1.0, (0, 0)
    edge = min(landscape.shape[0] // 14, (landscape.shape[0] - side) // 2)
    for row in range(edge, landscape.shape[0] - side - edge + 1, max(1, side // 5)):
        for col in range(edge, landscape.shape[1] - side - edge + 1, max(1, side // 5)):
            view = np.s_[row : row + side : 2, col : col + side : 2]
            share = np.bincount(landscape.labels[view].ravel(), minlength=len(CLASSES)) / (side // 2) ** 2
            variety = float(-(share * np.log(np.maximum(share, 1e-9))).sum())
            hidden = float((landscape.cloud[view] > 0.7).mean())
            score = variety - 2.5 * abs(hidden - 0.4)
            if score > best:
                best, place = score, (row, col)
    return place
