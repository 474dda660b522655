"""The folder of a training run, and ``runs/latest``, which leads to the newest."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

import geoasanet
from geoasanet.config import TrainConfig
from geoasanet.errors import ConfigError, OutputError, OutputExistsError
from geoasanet.files import atomic_output
from geoasanet.training.processes import started_by_torchrun

RUNS = Path("runs")
CONFIG = "config.yaml"


def choose_folder(name: str, out: Path | None, overwrite: bool) -> Path:
    """Return the folder of a new run; nothing is made yet.

    Args:
        name: What the run is called where ``out`` is not given.
        out: The folder that was asked for.
        overwrite: Allow replacing a run in it.

    Raises:
        OutputExistsError: If ``out`` holds a run and ``overwrite`` is false, or something else.
        ConfigError: If torchrun's processes were not told the folder.
    """
    if out is None:
        if started_by_torchrun():
            raise ConfigError("Under torchrun every process must know the folder of the run.", "Give --out runs/NAME.")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return _free(RUNS / f"{name}_{stamp}")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputExistsError(f"{out} exists and is no folder of a run.", "Choose another name for --out.")
    occupied = out.is_dir() and any(out.iterdir())
    if not occupied or started_by_torchrun():
        return out
    if not (out / CONFIG).is_file():
        raise OutputExistsError(f"Folder {out} holds something else than a run.", "Choose another name for --out.")
    if not overwrite:
        raise OutputExistsError(
            f"Folder {out} holds a run.", f"Go on with it (--resume {out}), choose another --out, or add --overwrite."
        )
    return out


def _free(path: Path) -> Path:
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def prepare_folder(out: Path, config: TrainConfig, *, resume: bool) -> None:
    """Make the folder of a run with its configuration, and let ``runs/latest`` lead to it.

    Raises:
        OutputError: If it cannot be written.
    """
    import yaml

    try:
        if not resume and (out / CONFIG).is_file():
            shutil.rmtree(out)  # overwrite was asked for and everything else has been checked
        out.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None)
        with atomic_output(out / CONFIG) as temporary:
            temporary.write_text(f"# geoasanet {geoasanet.__version__}\n{text}", encoding="utf-8")
        _point_latest(out)
    except OSError as error:
        raise OutputError(f"Run folder {out} cannot be written ({error.strerror or error}).") from None


def _point_latest(out: Path) -> None:
    """Let ``runs/latest`` of the folder that holds the run lead to it."""
    link = RUNS / "latest"
    if RUNS.resolve() != out.resolve().parent or (link.exists() and not link.is_symlink()):
        return
    temporary = RUNS / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(out.name, target_is_directory=True)
    temporary.replace(link)
