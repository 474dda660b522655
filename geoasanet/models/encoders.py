"""What every encoder with ImageNet weights has in common, and ConvNeXt-V2 encoders of any size, run stage by stage.

Blocks come from timm (Apache-2.0), architecture from "ConvNeXt V2" (Woo et al. 2023, arXiv 2301.00808). Letters in
names: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoasanet.errors import ModelError
from geoasanet.models.network import check_count

EncoderSpec = str | Mapping[str, Sequence[int]]
"""A timm name such as ``"convnextv2_tiny"``, or ``{"depths": [1, 1, 2, 1], "dims": [16, 32, 48, 64]}``."""

Sizes = tuple[tuple[int, ...], tuple[int, ...]]
"""Blocks and channels of every stage."""

Weights = dict[str, Tensor]

STAGES = 4
STAGE_LAYERS = 8
"""Layers that :func:`stage_layer` tells apart."""


class Encoder(nn.Module):
    """An encoder with published ImageNet weights; :mod:`geoasanet.models.pretrained` loads them."""

    first_conv: str
    """Name of the weight of the convolution that takes the image."""
    tags: tuple[str, ...]
    """timm's tags of the weights, best first."""
    may_lack: tuple[str, ...] = ()
    """How names begin that such weights do not hold; these keep their initial values."""

    def repository(self, spec: EncoderSpec) -> str:
        """Return where the Hugging Face hub holds the weights of size ``spec``.

        Raises:
            ModelError: If there are none.
        """
        import timm

        if not isinstance(spec, str):
            raise ModelError("ImageNet weights exist for encoders that timm knows by name only.", "Give a file.")
        published = timm.list_models(f"{spec}.*", pretrained=True)
        names = [f"{spec}.{tag}" for tag in self.tags if f"{spec}.{tag}" in published]
        if not names:
            raise ModelError(f"There are no ImageNet weights for encoder {spec!r}.", "Give a file.")
        return f"timm/{names[0]}"

    def translate(self, weights: Weights) -> Weights:
        """Return published weights under the names here; others may be among them."""
        return weights


class ConvNeXtEncoder(Encoder):
    """Stem, four stages and the norm that follows each stage.

    The caller runs the stages one by one, because fusion happens in between: ``x = encoder.stage(i, x)`` and, after
    the exchange with the other sensor, ``x = encoder.norms[i](x)``.

    Args:
        spec: Which size.
        in_channels: Number of input bands.
        drop_path: Stochastic depth of the last block; grows linearly from 0 at the first.

    Raises:
        ModelError: If the size is unknown or impossible.
    """

    first_conv = "stem.0.weight"
    tags = ("fcmae_ft_in22k_in1k_384", "fcmae_ft_in22k_in1k", "fcmae_ft_in1k")
    may_lack = ("norms.",)

    def __init__(self, spec: EncoderSpec, in_channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        from timm.layers import LayerNorm2d

        self.spec = spec
        trunk = build_trunk(spec, in_channels, drop_path)
        self.stem: nn.Module = trunk.stem
        self.stages: nn.Sequential = trunk.stages
        self.dims: list[int] = [info["num_chs"] for info in trunk.feature_info]
        self.norms = nn.ModuleList(LayerNorm2d(dim, eps=1e-6) for dim in self.dims)

    def stage(self, index: int, x_BCHW: Tensor) -> Tensor:
        """Return the output of stage ``index`` (0 to 3), at stride 4, 8, 16, 32; stage 0 begins with the stem."""
        if index == 0:
            x_BCHW = self.stem(x_BCHW)
        result: Tensor = self.stages[index](x_BCHW)
        return result

    def translate(self, weights: Weights) -> Weights:
        """Return timm's or Meta's weights under our names; the norms after stages 0 to 2 are in neither."""
        from timm.models.convnext import checkpoint_filter_fn

        with torch.device("meta"):
            trunk = build_trunk(self.spec, 3)
        found: Weights = checkpoint_filter_fn(weights, trunk)
        return {key.replace("head.norm.", f"norms.{STAGES - 1}."): tensor for key, tensor in found.items()}


def build_trunk(spec: EncoderSpec, in_channels: int, drop_path: float = 0.0) -> Any:
    """Return timm's ``ConvNeXt`` without classifier.

    Raises:
        ModelError: If ``spec`` is unknown or impossible.
    """
    import timm
    from timm.models.convnext import ConvNeXt

    if isinstance(spec, str):
        known = encoder_names()
        if spec not in known:
            raise ModelError(
                f"Encoder {spec!r} is unknown.",
                f"Known are {', '.join(known)}; or give depths and dims.",
            )
        return timm.create_model(spec, num_classes=0, in_chans=in_channels, drop_path_rate=drop_path)
    depths, dims = check_sizes(spec, {})
    return ConvNeXt(
        in_chans=in_channels,
        num_classes=0,
        depths=depths,
        dims=dims,
        use_grn=True,
        ls_init_value=None,
        drop_path_rate=drop_path,
    )


def stage_layer(parameter_name: str) -> int:
    """Return the layer of a parameter for stage-wise decay: 0 stem and all downsampling, 1 to 4 the stages, 7 the rest.

    Two encoders count alike. 5 and 6 stay empty: the original counts so, and the factors depend on it.

    Args:
        parameter_name: Its name in a network whose encoders are called ``encoder`` or ``…_encoder``.
    """
    match = re.match(r"(?:\w+_)?encoder\.(?:(stem|stages\.\d+\.downsample)|stages\.(\d+))\.", parameter_name)
    if match is None:
        return STAGE_LAYERS - 1
    return 0 if match[1] else int(match[2]) + 1


def encoder_names() -> list[str]:
    """Return the ConvNeXt-V2 sizes that timm knows by name."""
    import timm

    return [str(name) for name in timm.list_models("convnextv2_*")]


def check_sizes(spec: Any, known: Mapping[str, Sizes], stages: int = STAGES) -> Sizes:
    """Return blocks and channels per stage of an encoder given by name or as depths and dims.

    Raises:
        ModelError: If the name is not among ``known``, or the numbers are impossible.
    """
    if isinstance(spec, str):
        if spec not in known:
            raise ModelError(f"Encoder {spec!r} is unknown.", f"Known are {', '.join(known)}; or give depths and dims.")
        return known[spec]
    if not isinstance(spec, Mapping) or set(spec) != {"depths", "dims"}:
        raise ModelError(f"An encoder is a timm name or {{'depths': […], 'dims': […]}}, found {spec!r}.")
    sizes: list[tuple[int, ...]] = []
    for key, largest in (("depths", 256), ("dims", 65536)):
        values = spec[key]
        if not isinstance(values, list | tuple) or len(values) != stages:
            raise ModelError(f"Encoder {key} must be {stages} numbers, found {values!r}.")
        sizes.append(tuple(check_count(f"Encoder {key}", value, largest) for value in values))
    return sizes[0], sizes[1]


def name_sizes(sizes: Sizes, known: Mapping[str, Sizes]) -> str | dict[str, list[int]]:
    """Return the name of an encoder with these blocks and channels, or depths and dims where it has none."""
    depths, dims = sizes
    return next((name for name, other in known.items() if other == sizes), {"depths": list(depths), "dims": list(dims)})
