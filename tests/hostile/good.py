"""Inputs without fault that hostile ones are tried beside: a scene, labels, a map, a dataset, a checkpoint, a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import shapely
import torch
import yaml

import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from tests.conftest import UTM, write_raster
from tests.test_convert import PALETTE, config, official_names

SIDE = 48
TILES = "TILES_HERE"
NAMES = ("water", "forest", "field", "town", "bare")
CRS = "EPSG:32650"
BANDS = InputBands(
    rgb=SensorBands((120.0, 125.0, 130.0), (70.0, 72.0, 74.0)),
    sar=SensorBands((-8.0,), (3.0,), "db"),
)
ENCODER = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
SMALL = {"decoder_channels": 16, "auxiliary_channels": 8}


def pixels(role: str, rng: np.random.Generator, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Return the usual pixels of a raster: "rgb", "sar", "classes" or "confidence"; shape (bands, height, width)."""
    if role == "rgb":
        return rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    if role == "sar":
        return rng.gamma(4, 0.05, (1, height, width)).astype(np.float32)
    if role == "confidence":
        return rng.uniform(0.2, 1, (1, height, width)).astype(np.float32)
    coarse = rng.integers(0, len(NAMES), (1, -(-height // 8), -(-width // 8)), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width])


def make_small_model() -> torch.nn.Module:
    """Return a small untrained ASANet."""
    torch.manual_seed(0)
    return ga.create_model("asanet", len(NAMES), (3, 1), ENCODER, **SMALL)


def make_checkpoint(path: Path) -> Path:
    """Write a checkpoint of :func:`make_small_model`."""
    ga.save_checkpoint(path, make_small_model(), classes=ClassSchema.from_names(NAMES), bands=BANDS, window_size=32)
    return path


def exported(kit: Path, form: str) -> Path:
    """Return the checkpoint as an exported file, "onnx" or "pt2", made when it is first asked for."""
    path = kit / f"good.{form}"
    if not path.exists():
        ga.export(kit / "good.safetensors", to=form, out=path)
    return path


def make_vector(path: Path) -> Path:
    """Write label polygons that cover the scene."""
    x, y, step = UTM.c, UTM.f, 10 * SIDE / 4
    boxes, names = [], []
    for row in range(4):
        for col in range(4):
            left, top = x + col * step, y - row * step
            boxes.append(shapely.box(left, top - step, left + step, top))
            names.append(NAMES[(row + col) % len(NAMES)])
    ids = [NAMES.index(name) for name in names]
    geopandas.GeoDataFrame({"class_name": names, "class_id": ids}, geometry=boxes, crs=CRS).to_file(path)
    return path


def make_config(path: Path) -> Path:
    """Write a training configuration that is done in one iteration."""
    config = {
        "encoder": ENCODER,
        "model_args": SMALL,
        "crop_size": 32,
        "iterations": 1,
        "batch_size": 2,
        "validate_every": 1,
        "save_every": 1,
        "sync_batchnorm": "none",
    }
    path.write_text(yaml.safe_dump(config))
    return path


def make_kit(folder: Path) -> Path:
    """Write everything into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    write_raster(folder / "good_rgb.tif", pixels("rgb", rng))
    write_raster(folder / "good_sar.tif", pixels("sar", rng))
    labels = pixels("classes", rng)
    labels[0, :8, :40] = np.arange(5).repeat(8)
    write_raster(folder / "good_map.tif", labels, nodata=255)
    write_raster(folder / "good_confidence.tif", pixels("confidence", rng))
    make_vector(folder / "good_labels.gpkg")
    make_checkpoint(folder / "good.safetensors")
    make_config(folder / "good.yaml")
    _make_tiles(folder)
    _make_points(folder / "points.gpkg")
    _make_run(folder)
    torch.save(
        {
            "meta": {"cfg": config(), "dataset_meta": {"classes": list("abcd"), "palette": PALETTE}, "iter": 9},
            "state_dict": official_names(_official_model()),
        },
        folder / "good.pth",
    )
    _warm_up(folder)
    return folder


def _warm_up(folder: Path) -> None:
    """Have numba compile what commands need, so that none seems to hang."""
    maps = folder / "good_map.tif"
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        ga.vectorize(maps, out=out / "p.gpkg", confidence=folder / "good_confidence.tif", workers=1)
        ga.evaluate(map=maps, labels=folder / "good_labels.gpkg")
        away = UTM @ UTM.translation(0.3, 0.4)
        shifted = write_raster(out / "shifted.tif", pixels("sar", np.random.default_rng(0)), transform=away)
        rgb = folder / "good_rgb.tif"
        ga.predict(rgb, shifted, checkpoint=folder / "good.safetensors", out=out / "map.tif")


def _make_tiles(folder: Path) -> None:
    """Write a dataset of six tiles, large enough to train on."""
    rng = np.random.default_rng(6)
    names = [folder / f"large_{role}.tif" for role in ("rgb", "sar", "classes")]
    for path, role in zip(names, ("rgb", "sar", "classes"), strict=True):
        write_raster(path, pixels(role, rng, 64, 96))
    rgb, sar, labels = names
    ga.tile(rgb, sar, labels=labels, out=folder / "good_tiles", size=32, block=1, classes=NAMES, workers=1)


def _make_points(path: Path) -> None:
    """Write reference points on every class of the map, with the stratum each was drawn from."""
    cells = [(row, col) for row in range(2, SIDE, 8) for col in range(2, SIDE, 8)]
    points = [shapely.Point(UTM.c + 10 * col + 5, UTM.f - 10 * row - 5) for row, col in cells]
    ids = [i % 5 for i in range(len(points))]
    strata = ["water" if i % 2 else "forest" for i in range(len(points))]
    geopandas.GeoDataFrame({"class_id": ids, "stratum": strata}, geometry=points, crs=CRS).to_file(path)


def _make_run(folder: Path) -> None:
    """Write the folder of a run of one iteration; TILES_HERE stands for its dataset."""
    run = folder / "good_run"
    ga.train(folder / "good.yaml", data=folder / "good_tiles", out=run, device="cpu", settings=["workers=0"])
    path = run / "config.yaml"
    path.write_text(path.read_text().replace(str(folder / "good_tiles"), TILES))


def _official_model() -> torch.nn.Module:
    """Return the network whose weights ``official_names`` can name."""
    torch.manual_seed(3)
    sizes = {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24]}
    return ga.create_model("asanet", 4, (3, 3), sizes, decoder_channels=8, auxiliary_channels=4)


def lay_out(kit: Path, folder: Path, *names: str) -> None:
    """Copy parts of the kit into ``folder``."""
    for name in names:
        source, target = kit / name, folder / name
        if target.exists():
            continue
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
        os.utime(target, (1_700_000_000, 1_700_000_000))
