"""The network of a training: built from the configuration and what the tiles say, and checked against them."""

from __future__ import annotations

from collections.abc import Sequence

from geoasanet.bands import InputBands, SensorBands
from geoasanet.config import TrainConfig
from geoasanet.errors import ConfigError, ManifestError
from geoasanet.models.network import MIN_SIDE, Network
from geoasanet.models.registry import create_model
from geoasanet.raster.dataset import TileDataset
from geoasanet.raster.moments import class_weights
from geoasanet.training.learner import stir_biases
from geoasanet.training.processes import Processes
from geoasanet.training.survey import Survey

_MANY_PARAMETERS = 20_000_000


def given_bands(config: TrainConfig) -> InputBands | None:
    """Return the statistics that the configuration gives; their scale is that of the tiles, not known here."""
    if config.rgb_mean is None or config.rgb_std is None or config.sar_mean is None or config.sar_std is None:
        return None
    names = ("red", "green", "blue")
    rgb = SensorBands(config.rgb_mean, config.rgb_std, "uint8", names if len(config.rgb_mean) == 3 else ())
    return InputBands(rgb, SensorBands(config.sar_mean, config.sar_std, "uint8"))


def probe_network(config: TrainConfig, dataset: TileDataset) -> Network | None:
    """Build the network before reading the tiles, where the folder says enough: a wrong argument then fails at once.

    Raises:
        GeoASANetError: As :func:`build_network`.
    """
    bands = given_bands(config) or dataset.bands
    if bands is None or dataset.classes is None:
        return None
    return _build(config, len(dataset.classes), len(bands.sar))


def build_network(config: TrainConfig, found: Survey) -> Network:
    """Return a new network for the classes and bands that were found.

    Raises:
        ConfigError: If ``crop_size`` does not fit the network.
        ModelError: If it cannot be built, or ``layer_decay`` is asked of a network without layers.
        CheckpointError: If encoder weights are out of reach.
    """
    return _build(config, len(found.classes), len(found.bands.sar))


def _build(config: TrainConfig, num_classes: int, sar_bands: int) -> Network:
    import torch

    torch.manual_seed(config.seed)
    network = create_model(
        config.model,
        num_classes,
        (3, sar_bands),
        config.encoder,
        encoder_weights=config.encoder_weights,
        **config.model_args,
    )
    step = network.size_multiple
    if config.crop_size % step:
        raise ConfigError(
            f"crop_size {config.crop_size} does not fit {config.model}, which needs multiples of {step} pixels.",
            f"Use {-(-config.crop_size // step) * step}.",
        )
    if config.layer_decay is not None:
        network.layer_index(next(network.named_parameters())[0])  # raises where there are no layers
    if config.missing_rgb or config.missing_sar:
        stir_biases(network)
    return network


def check_tile_size(network: Network, found: Survey, dataset: TileDataset) -> None:
    """Raise if evaluation, which sees whole tiles, could not run.

    Raises:
        ManifestError: If tiles are too small for the network, or their size is no multiple that it needs.
    """
    height, width = found.tile_size
    step = network.size_multiple
    if min(height, width) < MIN_SIDE or height % step or width % step:
        least, multiples = max(MIN_SIDE, step), f", in multiples of {step}" if step > 1 else ""
        raise ManifestError(
            f"The tiles of {dataset.root} are {height} x {width} pixels, but {network.architecture.name} needs at "
            f"least {least}{multiples}.",
            f"Tile again with --size {max(least, -(-max(height, width) // step) * step)}, or use another model.",
        )


def weights_of_classes(config: TrainConfig, found: Survey, dataset: TileDataset) -> Sequence[float] | None:
    """Return the weight of each class in the cross entropy, None for equal ones.

    Raises:
        ConfigError: If the configuration does not give one for each class.
    """
    if config.class_weights == "none":
        return None
    if config.class_weights == "auto":
        return dataset.class_weights or class_weights(found.class_pixels)
    if len(config.class_weights) != len(found.classes):
        raise ConfigError(
            f"class_weights has {len(config.class_weights)} values, but there are {len(found.classes)} classes: "
            f"{', '.join(found.classes.names)}."
        )
    return config.class_weights


def size_notes(network: Network, processes: Processes) -> list[str]:
    """Say so if the network is more than a CPU can train."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if processes.device.type != "cpu" or parameters < _MANY_PARAMETERS:
        return []
    return [
        f"A network of {parameters / 1e6:.0f} million parameters takes very long on a CPU. For a small one, which an "
        "hour is enough for: geoasanet train asanet_small."
    ]
