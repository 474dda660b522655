"""``geoasanet predict --scenes``: one map for each scene of a list."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geoasanet.errors import ConfigError, GeoASANetError, OutputError
from geoasanet.files import atomic_output
from geoasanet.models.checkpoint import load_checkpoint
from geoasanet.progress import Progress, silent
from geoasanet.tools.checkpoints import find_checkpoint
from geoasanet.tools.cluster import connect
from geoasanet.tools.journal import file_stamp
from geoasanet.tools.predict import predict
from geoasanet.tools.scenelist import read_scene_list
from geoasanet.tools.stacscenes import RGB_ASSETS, SAR_ASSETS, read_item_collection
from geoasanet.tools.tileinputs import prefixes

PathLike = str | os.PathLike[str]

REPORT = "scenes.json"
"""What became of each scene, in the folder of the maps; a later run of the same list goes on from it."""
PLACE = "{}"
"""Stands for a scene's name in the paths of further outputs."""
_PAUSE = 1.0
"""Seconds between two writings of the report, if no map was made meanwhile."""
_EXTRAS = ("confidence", "probabilities", "vectorize", "quicklook")


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """What became of one scene."""

    name: str
    rgb: str
    sar: str
    map: str
    error: str | None
    """Why there is no map; None if there is."""
    earlier: bool
    """True if an earlier run has made it."""
    nodata_pixels: int = 0
    class_pixels: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScenesResult:
    """What :func:`predict_scenes` made."""

    folder: Path
    scenes: tuple[SceneOutcome, ...]
    seconds: float
    warnings: tuple[str, ...]

    @property
    def failed(self) -> int:
        """Scenes without a map."""
        return sum(scene.error is not None for scene in self.scenes)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable description."""
        return {
            "folder": str(self.folder),
            "scenes": [asdict(scene) for scene in self.scenes],
            "failed": self.failed,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }


def predict_scenes(
    scenes: PathLike,
    *,
    out: PathLike = "maps",
    rgb_assets: Sequence[str] = RGB_ASSETS,
    sar_assets: Sequence[str] = SAR_ASSETS,
    scheduler: PathLike | None = None,
    gpus: int = 1,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> ScenesResult:
    """Map every scene of a list; one that fails is noted and the others go on.

    Maps that an earlier run of the same list and options has made are kept, others with their names refused.

    Args:
        scenes: A CSV file with the columns rgb and sar (labels and split are passed over), or a STAC ItemCollection
            (``.json``, ``.geojson``), whose items are paired by footprint.
        out: Folder for the maps, ``<name>_landcover.tif``, and the report ``scenes.json``; made if missing.
        rgb_assets: Keys of optical assets in an ItemCollection.
        sar_assets: Keys of SAR assets.
        scheduler: See :func:`geoasanet.predict`; the cluster serves all scenes.
        gpus: See there.
        resume: Go on with unfinished maps, and keep finished ones.
        overwrite: Replace maps that are no result of this list.
        progress: Told how far each scene is.
        options: Further options of :func:`geoasanet.predict`; paths of further outputs hold ``{}`` for the name.

    Returns:
        What became of each scene.

    Raises:
        ConfigError: If an option is impossible.
        ManifestError: If the list is malformed.
        OutputError: If the folder cannot be written.
    """
    started = time.monotonic()
    source, folder = Path(scenes), Path(out)
    for name in _EXTRAS:
        if options.get(name) is not None and PLACE not in os.fspath(options[name]):
            raise ConfigError(
                f"--{name} {options[name]} is one file for many scenes.", "Write maps/{}.tif, for instance."
            )
    if options.get("dry_run"):
        raise ConfigError("--dry-run looks at one scene.", "Give its RGB and SAR raster instead of --scenes.")
    if source.suffix.lower() in (".json", ".geojson"):
        files, notes = read_item_collection(source, rgb_assets, sar_assets)
    else:
        files, notes = read_scene_list(source), []
    checkpoint = load_checkpoint(find_checkpoint(options.pop("checkpoint", None)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Folder {folder} cannot be made: {error.strerror or error}.", "Choose another.") from None
    report = _Report(folder / REPORT, {"checkpoint": file_stamp(str(checkpoint.path)), **options}, resume)
    outcomes = []
    with contextlib.ExitStack() as stack:
        cluster = None if scheduler is None else stack.enter_context(connect(os.fspath(scheduler), gpus))
        for number, (name, scene) in enumerate(zip(prefixes(files), files, strict=True), 1):
            stamps = {"rgb": file_stamp(scene.rgb), "sar": file_stamp(scene.sar)}
            target = folder / f"{name}_landcover.tif"
            outcome = report.earlier(target, stamps)
            if outcome is None:
                extras = {k: os.fspath(options[k]).replace(PLACE, name) for k in _EXTRAS if options.get(k) is not None}
                outcome = _map(
                    SceneOutcome(name, scene.rgb, scene.sar, str(target), None, False),
                    checkpoint=checkpoint,
                    scheduler=cluster,
                    gpus=1 if cluster is not None else gpus,
                    resume=resume,
                    overwrite=overwrite,
                    progress=_named(progress, f"{number}/{len(files)} {name}"),
                    **{**options, **extras},
                )
                report.add(outcome, stamps)
            outcomes.append(outcome)
    report.write()
    return ScenesResult(folder, tuple(outcomes), time.monotonic() - started, tuple(notes))


def _map(scene: SceneOutcome, **options: Any) -> SceneOutcome:
    facts = asdict(scene)
    try:
        done: Any = predict(scene.rgb, scene.sar, out=scene.map, **options)
    except GeoASANetError as error:
        return SceneOutcome(**{**facts, "error": str(error)})
    facts.update(nodata_pixels=done.nodata_pixels, class_pixels=done.class_pixels, warnings=done.warnings)
    return SceneOutcome(**facts)


def _named(progress: Progress, name: str) -> Progress:
    def named(task: str, done: float, total: float, unit: str = "") -> None:
        progress(f"{name}: {task}", done, total, unit)

    return named


class _Report:
    """``scenes.json``: what is known of each map."""

    def __init__(self, path: Path, options: Mapping[str, Any], resume: bool) -> None:
        self._path = path
        self._options = json.loads(json.dumps(options, default=str))
        self._entries: dict[str, Any] = {}
        self._written = -_PAUSE
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8")) if resume else None
            if isinstance(found, dict) and isinstance(found.get("maps"), dict):
                self._entries = found["maps"]

    def earlier(self, target: Path, stamps: Mapping[str, Any]) -> SceneOutcome | None:
        """Return the outcome of an earlier run, if its map is still the one that it made, of the same inputs."""
        entry = self._entries.get(target.name)
        with contextlib.suppress(OSError, TypeError, KeyError):
            if (
                entry is not None
                and entry["inputs"] == json.loads(json.dumps(stamps))
                and entry["options"] == self._options
                and entry["map"] == _state(target)
            ):
                return SceneOutcome(**{**entry["outcome"], "earlier": True, "warnings": ()})
        return None

    def add(self, outcome: SceneOutcome, stamps: Mapping[str, Any]) -> None:
        """Note an outcome."""
        target = Path(outcome.map)
        self._entries[target.name] = {
            "inputs": dict(stamps),
            "options": self._options,
            "map": None if outcome.error is not None else _state(target),
            "outcome": asdict(outcome),
        }
        if outcome.error is None or time.monotonic() > self._written + _PAUSE:
            self.write()

    def write(self) -> None:
        """Write what was noted."""
        self._written = time.monotonic()
        text = json.dumps({"maps": self._entries}, indent=1, default=str)
        try:
            with atomic_output(self._path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"{self._path} cannot be written: {error.strerror or error}.", "Is the disk full?"
            ) from None


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
