"""What ``geoasanet tile`` finds out before it reads pixels: scenes, classes, names, where the tiles are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from geoasanet.classes import ClassSchema
from geoasanet.errors import ConfigError
from geoasanet.raster.schemas import schema_beside, schema_inside
from geoasanet.raster.split import BlockLayout
from geoasanet.raster.tileplan import SceneFiles, ScenePlan
from geoasanet.tools.scenelist import read_scene_list
from geoasanet.tools.schemafile import read_class_schema

PathLike = str | os.PathLike[str]

_BLOCKS_PER_SPLIT = 3
"""Blocks that are wanted for each split, at least."""
_LONGEST_STEM = 160
"""Bytes of a scene's name in names of files, which file systems end at 255 and datasets at 200 characters."""


def scene_files(
    rgb: PathLike | None, sar: PathLike | None, labels: PathLike | None, scenes: PathLike | None
) -> list[SceneFiles]:
    """Return the scenes that were named, one by one or in a list.

    Raises:
        ConfigError: If both were named, or neither.
        ManifestError: If the list is malformed.
    """
    if scenes is not None:
        if rgb is not None or sar is not None or labels is not None:
            raise ConfigError("--scenes names all files; RGB, SAR and --labels do not go with it.", "Leave them out.")
        return read_scene_list(scenes)
    if rgb is None or sar is None:
        raise ConfigError(
            "RGB and SAR raster are needed.", "geoasanet tile RGB SAR --labels PATH, or --scenes list.csv"
        )
    return [SceneFiles(str(rgb), str(sar), None if labels is None else str(labels))]


def find_classes(
    classes: PathLike | ClassSchema | Sequence[str] | None, files: Sequence[SceneFiles], field: str | None
) -> tuple[ClassSchema | None, list[str]]:
    """Return the class schema as far as it is known before the labels are read, and where it comes from."""
    labels = [f.labels for f in files if f.labels]
    if classes is not None and not labels:
        raise ConfigError("--classes needs labels.", "Add --labels.")
    if field is not None and not labels:
        raise ConfigError("--class-field needs labels.", "Add --labels.")
    if isinstance(classes, ClassSchema):
        found: ClassSchema | None = classes
        source = ""
    elif isinstance(classes, str | os.PathLike):
        found, source = read_class_schema(Path(classes)), str(classes)
    elif classes is not None:
        found, source = ClassSchema.from_names(list(classes)), ""
    else:
        beside = schema_beside(labels)
        found, source = schema_inside(labels, field) if beside is None else (read_class_schema(beside), str(beside))
    return found, [f"Classes from {source}: {', '.join(found.names)}."] if found is not None and source else []


def prefixes(files: Sequence[SceneFiles]) -> list[str]:
    """Return a different start of tile names for each scene, from its optical file's name."""
    stems = []
    for scene in files:
        name = scene.rgb.rstrip("/").rsplit("/", 1)[-1].split("?", 1)[0]
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(name).stem)
        stems.append(stem.encode()[:_LONGEST_STEM].decode(errors="ignore") or "scene")
    return [stem if stems.count(stem) == 1 else f"{stem}_{number:03d}" for number, stem in enumerate(stems, 1)]


def layouts_of(
    plans: Sequence[ScenePlan], size: int, overlap: int, block: int, splits: int
) -> tuple[list[BlockLayout], list[str]]:
    """Return where the tiles of each scene are, with blocks halved as long as there are too few to share out."""
    free = [p for p in plans if p.files.split is None]
    chosen = block
    while True:
        layouts = [BlockLayout(p.grid.height, p.grid.width, size, overlap, chosen) for p in plans]
        count = sum(layout.blocks for plan, layout in zip(plans, layouts, strict=True) if plan in free)
        if not free or splits < 2 or chosen == 1 or count >= _BLOCKS_PER_SPLIT * splits:
            break
        chosen //= 2
    if chosen == block:
        return layouts, []
    return layouts, [
        f"Blocks of {chosen} x {chosen} tiles were taken: with --block {block} there would be fewer than "
        f"{_BLOCKS_PER_SPLIT * splits} to share out."
    ]
