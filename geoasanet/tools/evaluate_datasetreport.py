"""The HTML report on a checkpoint and the tiles of a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoasanet.bands import InputBands
from geoasanet.classes import ClassSchema
from geoasanet.models.checkpoint import Checkpoint
from geoasanet.printable import escape
from geoasanet.raster.dataset import TileDataset
from geoasanet.raster.figure import ramp
from geoasanet.tools.charts import picture, swatch
from geoasanet.tools.evaluate_diagram import calibration_section
from geoasanet.tools.evaluate_result import DatasetEvaluation
from geoasanet.tools.evaluate_tiles import LEAST_LABELLED, RankedTile
from geoasanet.tools.report import (
    accuracy,
    facts_table,
    headline,
    legend,
    made_by,
    number,
    section,
    write_page,
)


def write_dataset_report(
    result: DatasetEvaluation,
    checkpoint: Checkpoint,
    dataset: TileDataset,
    best: Sequence[RankedTile],
    worst: Sequence[RankedTile],
    out: Path,
) -> None:
    """Write the report of an evaluation; it appears under its name when whole.

    Args:
        result: What was found.
        checkpoint: The checkpoint.
        dataset: The dataset as its folder describes it.
        best: The best tiles with their pictures, best first.
        worst: The worst tiles with their pictures, worst first.
        out: The HTML file.

    Raises:
        OutputError: If it cannot be written.
    """
    rule = (
        f"By the tile's own overall accuracy; tiles with less than {100 * LEAST_LABELLED:g} % labelled pixels are left "
        "out. Pale grey: no label, or no data."
    )
    sections = [
        headline(result),
        *accuracy(result),
        calibration_section(result.calibration, _fitted_on(checkpoint)),
        *(
            section(title, _legend(result.classes) + _strips(tiles), rule)
            for title, tiles in (("Worst tiles", worst), ("Best tiles", best))
            if tiles
        ),
        section("Checkpoint", facts_table(_checkpoint_facts(result, checkpoint))),
        section("Dataset", facts_table(_dataset_facts(result, dataset) | made_by())),
    ]
    write_page(
        out,
        f"Accuracy of {Path(result.checkpoint).name}",
        f"on the {result.tiles:,} tiles of {result.split}, {result.data}",
        sections,
    )


def _fitted_on(checkpoint: Checkpoint) -> str:
    """Return on which tiles a checkpoint's temperature was fitted, empty if it was not."""
    origin = checkpoint.training.get("calibration")
    if not isinstance(origin, Mapping):
        return ""
    data = origin.get("data", checkpoint.training.get("data", "its training data"))
    return f"{origin.get('split', '?')} of {data} ({origin.get('pixels', '?')} pixels)"


def _strips(tiles: Sequence[RankedTile]) -> str:
    """Return a row of pictures for each tile, under its name and score."""
    strips = []
    for tile in tiles:
        score = tile.score
        figures = "".join(picture(pixels, caption) for caption, pixels in tile.panels)
        strips.append(
            f"<h3>{escape(score.name)}</h3><p class='note'>overall accuracy {number(score.accuracy)}, "
            f"mIoU {number(score.mean_iou)}, {score.pixels:,} labelled pixels</p>"
            f'<div class="pictures strip">{figures}</div>'
        )
    return "".join(strips)


def _legend(schema: ClassSchema) -> str:
    """Return class colours, and what the colours of confidence mean."""
    low = 1 / len(schema)
    colors = ramp(np.linspace(low, 1, 7)[None])[0].tolist()
    scale = "".join(swatch((red, green, blue)) for red, green, blue in colors)
    return f'{legend(schema)}<p class="legend scale"><span>confidence {low:.2f} {scale} 1.00</span></p>'


def _checkpoint_facts(result: DatasetEvaluation, checkpoint: Checkpoint) -> dict[str, str]:
    arguments = ", ".join(f"{key} {_text(value)}" for key, value in checkpoint.arguments.items())
    return {
        "checkpoint": result.checkpoint,
        "SHA-256": result.sha256,
        "network": f"{checkpoint.name} ({arguments})",
        "parameters": f"{sum(p.numel() for p in checkpoint.model.parameters()):,}",
        "temperature": f"{checkpoint.temperature:.4g}",
        "classes": ", ".join(f"{i} {name}" for i, name in enumerate(checkpoint.classes.names)),
        "trained on windows of": f"{checkpoint.window_size} x {checkpoint.window_size} px",
        **_band_facts(checkpoint.bands),
        **_flat("training", checkpoint.training),
        "written by": f"geoasanet {checkpoint.version}",
        "run with": f"{result.precision} on {result.device}{', test-time augmentation' if result.tta else ''}",
    }


def _dataset_facts(result: DatasetEvaluation, dataset: TileDataset) -> dict[str, str]:
    classes, size = dataset.classes, dataset.tile_size
    facts = {
        "folder": str(dataset.root),
        "split": f"{result.split} ({result.tiles:,} tiles)",
        "all splits": ", ".join(f"{split} {len(names):,}" for split, names in dataset.splits.items()),
        "tile size": "not said" if size is None else f"{size} x {size} px",
        "classes": "not said" if classes is None else ", ".join(f"{i} {n}" for i, n in enumerate(classes.names)),
    }
    return facts | _flat("origin", dataset.manifest.origin)


def _band_facts(bands: InputBands) -> dict[str, str]:
    return {
        f"{name} mean ± deviation": ", ".join(f"{m:.4g} ± {s:.4g}" for m, s in zip(band.mean, band.std, strict=True))
        + f" ({band.scale})"
        for name, band in (("RGB", bands.rgb), ("SAR", bands.sar))
    }


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested values as one line each."""
    facts: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}: {str(key).replace('_', ' ')}"
        facts |= _flat(name, value) if isinstance(value, Mapping) else {name: _text(value)}
    return facts


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
