"""A prediction that was thought through: files opened, options checked, nothing written yet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import geoasanet
from geoasanet.classes import ClassSchema
from geoasanet.device import Precision, choose_device, choose_precision
from geoasanet.errors import ConfigError
from geoasanet.files import check_output
from geoasanet.inference.arithmetic import Arithmetic, choose_arithmetic
from geoasanet.inference.blend import BLENDS
from geoasanet.inference.mapping import MapJob, MapLayout
from geoasanet.inference.predictor import Predictor
from geoasanet.inference.rows import MissingSar
from geoasanet.models.checkpoint import Checkpoint
from geoasanet.models.network import Network
from geoasanet.raster.aoi import Bounds
from geoasanet.raster.faults import OnError, faults_for
from geoasanet.raster.lonlat import footprint
from geoasanet.raster.scaling import SarScale
from geoasanet.raster.scene import Scene, default_map_path
from geoasanet.tools.cluster import Cluster
from geoasanet.tools.dryrun import Space, space_needed
from geoasanet.tools.journal import file_stamp, partial_folder
from geoasanet.tools.network import MapNetwork, check_bands, load_network, origin_notes, scaling_for, window_notes
from geoasanet.tools.published import Published

PathLike = str | os.PathLike[str]

_MAP_BYTES = 0.1
_FLOAT_BYTES = 3.0
"""Bytes of a pixel of a class map and of a value of confidence or probability, compressed; overviews included."""

_VALUE_BYTES = 4
"""Bytes of a value of a prediction that one worker keeps for another."""


@dataclass(frozen=True, slots=True)
class PredictJob:
    """What :func:`geoasanet.predict` is to do."""

    map_job: MapJob
    layout: MapLayout
    network: MapNetwork
    device: torch.device
    arithmetic: Arithmetic
    batch_size: int | Literal["auto"]
    gpus: int
    tta: bool
    out: Path
    extras: Mapping[str, Path]
    """Further outputs, by "confidence", "probabilities", "polygons", "quicklook" and "stac"."""
    notes: Sequence[str]
    """What the user should know."""
    overwrite: bool
    """Replace existing outputs."""
    cluster: Cluster | None
    """Where the network runs, if not in this process or its own ones."""

    @property
    def folder(self) -> Path:
        """Where finished work is kept until the map is whole."""
        return partial_folder(self.out)

    def predictor(self) -> Predictor:
        """Return what runs the network."""
        network = self.network
        return Predictor(
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

    def describe(self) -> dict[str, Any]:
        """Return all that decides the map's pixels; ``on_error`` does not decide those of rows without errors."""
        return {
            "rgb": file_stamp(self.map_job.rgb),
            "sar": file_stamp(self.map_job.sar),
            "options": self._options(),
            "network": self.network.identity,
            "classes": list(self.network.classes.names),
            "device": self.device.type,
            "precision": self.arithmetic.precision,
            "batch_size": self.batch_size,
            "tta": self.tta,
            "compile": self.arithmetic.compile,
            "version": geoasanet.__version__,
        }

    def tags(self) -> dict[str, str]:
        """Return the tags of the outputs."""
        options = {**self._options(), "precision": self.arithmetic.precision, "tta": self.tta}
        return {
            "GEOASANET_VERSION": geoasanet.__version__,
            "GEOASANET_CHECKPOINT": self.network.identity.get("sha256", self.network.label),
            "GEOASANET_MODEL": self.network.identity["model"],
            "GEOASANET_OPTIONS": json.dumps(options, sort_keys=True),
            "TIFFTAG_SOFTWARE": f"geoasanet {geoasanet.__version__}",
        }

    def _options(self) -> dict[str, Any]:
        left_out = ("rgb", "sar", "on_error")
        return {name: value for name, value in asdict(self.map_job).items() if name not in left_out}

    def sizes(self) -> dict[Path, int]:
        """Return about how many bytes each raster of the output will have."""
        pixels = self.layout.grid.width * self.layout.grid.height
        values = {"confidence": 1, "probabilities": len(self.network.classes)}
        sizes = {self.extras[name]: int(_FLOAT_BYTES * pixels * n) for name, n in values.items() if name in self.extras}
        return {self.out: int(_MAP_BYTES * pixels), **sizes}

    def spool_bytes(self) -> int:
        """Return about how many bytes the finished work has before the outputs are written."""
        pixels = self.layout.grid.width * self.layout.grid.height
        floats = self.map_job.keep_confidence + len(self.network.classes) * self.map_job.keep_probabilities
        return int((_MAP_BYTES + _FLOAT_BYTES * floats) * pixels)

    def lent_bytes(self) -> int:
        """Return how many bytes the predictions have that workers share, kept beside the finished work."""
        plan = self.layout.plan
        if self.device.type != "cpu":
            return 0
        lead = len(plan.leading_to(plan.rows[-1:]).rows) - 1
        rows = min(lead * (min(self.gpus, len(plan.rows)) - 1), len(plan.rows))
        values = len(plan.columns) * len(self.network.classes) * self.map_job.window**2
        return rows * values * _VALUE_BYTES

    def spaces(self, done: float = 0.0) -> tuple[Space, ...]:
        """Return the room that is needed on each disk, ``done`` of the finished work (0 to 1) being there already."""
        unfinished = int(self.spool_bytes() * (1 - done)) + self.lent_bytes()
        return space_needed([(self.folder, unfinished), *self.sizes().items()])


def prepare(
    rgb: PathLike,
    sar: PathLike,
    *,
    checkpoint: PathLike | Checkpoint | None,
    model: torch.nn.Module | None,
    classes: ClassSchema | Sequence[str] | None,
    out: PathLike | None,
    window: int | None,
    overlap: int | None,
    blend: str,
    batch_size: int | Literal["auto"],
    device: str,
    gpus: int,
    precision: Precision,
    compile: bool,
    tta: bool,
    aoi: PathLike | None,
    bbox: Bounds | None,
    bbox_crs: str | None,
    extras: Mapping[str, PathLike | None],
    rgb_bands: Sequence[int] | None,
    sar_bands: Sequence[int] | None,
    sar_scale: SarScale,
    missing_sar: MissingSar,
    on_error: OnError,
    resume: bool,
    overwrite: bool,
    cluster: Cluster | None,
) -> PredictJob:
    """Check the arguments of :func:`geoasanet.predict`, described there, against one another and the files.

    Raises:
        GeoASANetError: If an input, an option, the checkpoint or an output is at fault.
    """
    faults = faults_for(on_error)
    map_path = default_map_path(rgb) if out is None else Path(out)
    paths = {name: Path(path) for name, path in extras.items() if path is not None}
    options = _check_options(blend, missing_sar, gpus, aoi, bbox, bbox_crs)
    published = Published(partial_folder(map_path)) if resume else None
    _check_outputs([map_path, *paths.values()], published, overwrite, (str(rgb), str(sar)))
    torch_device = choose_device(device) if cluster is None else _cluster_device(cluster, device)
    if cluster is None:
        choose_precision(precision, torch_device)  # an impossible one is said before files are opened

    network = load_network(checkpoint, model, classes, window, sar_bands)
    _check_workers(gpus, cluster, network, torch_device)
    size = network.window if window is None else window
    notes = origin_notes(network) + window_notes(network, size)
    sar_count = network.sar_count or 1
    with Scene.open(rgb, sar, rgb_bands=rgb_bands, sar_bands=sar_bands, sar_count=sar_count, faults=faults) as scene:
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
            keep_confidence="confidence" in paths or "quicklook" in paths,
            keep_probabilities="probabilities" in paths,
            on_error=on_error,
            **options,
        )
        layout = MapLayout.of(job, scene.grid, job.open_area(scene.grid))
    if "stac" in paths:
        footprint(layout.grid)  # raises now where it cannot be told later
    windows = len(layout.plan) * (8 if tta else 1)
    choice = precision, compile, torch_device, windows * network.work(size)
    if cluster is None:
        arithmetic = choose_arithmetic(*choice)
    else:
        arithmetic = cluster.call(choose_arithmetic, *choice, gpu=torch_device.type == "cuda")
    notes += [arithmetic.note] if arithmetic.note else []
    return PredictJob(
        map_job=job,
        layout=layout,
        network=network,
        device=torch_device,
        arithmetic=arithmetic,
        batch_size=batch_size,
        gpus=gpus,
        tta=tta,
        out=map_path,
        extras=paths,
        notes=tuple(notes),
        overwrite=overwrite,
        cluster=cluster,
    )


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


def _check_outputs(
    everything: Sequence[Path], published: Published | None, overwrite: bool, inputs: tuple[str, ...]
) -> None:
    for path in everything:
        if everything.count(path) > 1:
            raise ConfigError(f"Two outputs have the same name: {path}.", "Name them differently.")
        ours = published is not None and published.holds(path)
        check_output(path, overwrite=overwrite or ours, inputs=inputs)


def _check_workers(gpus: int, cluster: Cluster | None, network: MapNetwork, device: torch.device) -> None:
    if gpus == 1 and cluster is None:
        return
    if network.checkpoint is None or not isinstance(network.model, Network):
        raise ConfigError(
            "Several workers need a checkpoint that geoasanet trained or converted, found "
            f"{'a model object' if network.checkpoint is None else network.label}.",
            "Leave out --gpus and --scheduler.",
        )
    if cluster is None and device.type == "cuda" and torch.cuda.device_count() < gpus:
        raise ConfigError(
            f"--gpus {gpus} asks for {gpus} CUDA devices, {torch.cuda.device_count()} found.",
            "Lower --gpus, or add --device cpu.",
        )


def _cluster_device(cluster: Cluster, name: str) -> torch.device:
    """Return the workers' device: the GPUs that they declare, unless the CPU is asked for."""
    if name == "auto":
        return torch.device("cuda" if cluster.has_gpus else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name} does not go with --scheduler.", "Use auto, cpu or cuda.")
    if name == "cuda" and not cluster.has_gpus:
        raise ConfigError(
            "No worker declares a GPU.", 'Start workers, one for each GPU, with: dask worker … --resources "GPU=1"'
        )
    return torch.device(name)
