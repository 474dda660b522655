"""How the original code names its weights, and what their shapes tell about the network.

One :class:`Layout` per network; a new one needs an entry in ``LAYOUTS``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from geoasanet.errors import CheckpointError
from geoasanet.models.encoders import STAGES, build_trunk, encoder_names
from geoasanet.models.layout_cmfnet import CMFNET_RULES, infer_cmfnet
from geoasanet.models.layout_cmx import CMX_RULES, infer_cmx
from geoasanet.models.layout_ftransunet import FTRANSUNET_RULES, infer_ftransunet
from geoasanet.models.layout_fusenet import FUSENET_RULES, infer_fusenet
from geoasanet.models.layout_sagate import SAGATE_RULES, infer_sagate
from geoasanet.models.renaming import rename

Shapes = Mapping[str, tuple[int, ...]]
ChannelOrder = Literal["bgr", "rgb"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The naming of one network's original checkpoints."""

    channel_order: ChannelOrder
    """Order of the optical channels that the original trains with."""
    rgb_stem: str
    """Our name of the convolution that takes the optical image."""
    sar_stem: str
    """Our name of the convolution that takes the SAR image."""
    infer: Callable[[Shapes], dict[str, Any]]
    """Gives the arguments of the network from the original's names and shapes; ``KeyError`` where one is missing."""
    rename: Callable[[str], str]
    """Gives our name for the original's."""
    public_data: bool = True
    """Whether the original trains on the public RGB and SAR data sets, so that their classes and statistics may stand
    in for what a file lacks."""


ASANET_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.backbone\.", "rgb_encoder."),
    (r"^backbone\.backbone2\.", "sar_encoder."),
    (r"_encoder\.downsample_layers\.0\.", "_encoder.stem."),
    (r"_encoder\.stages\.(\d+)\.(\d+)\.", r"_encoder.stages.\1.blocks.\2."),
    (r"_encoder\.downsample_layers\.(\d+)\.", r"_encoder.stages.\1.downsample."),
    (r"_encoder\.norm(\d)\.", r"_encoder.norms.\1."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.pointwise_conv(\d)\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^backbone\.FRMs\.(\d)\.sconv\.", r"focusing.\1.gate."),
    (r"^backbone\.FFMs\.(\d)\.", r"fusion.\1."),
    (r"^(fusion\.\d)\.catconv1\.", r"\1.mix."),
    (r"^(fusion\.\d)\.catconv2\.", r"\1.remix."),
    (r"^(fusion\.\d)\.fc1\.", r"\1.weigh_rgb."),
    (r"^(fusion\.\d)\.fc2\.", r"\1.weigh_sar."),
    (r"^(fusion\.\d)\.mlp1\.", r"\1.gate_rgb."),
    (r"^(fusion\.\d)\.mlp2\.", r"\1.gate_sar."),
    (r"^(fusion\.\d\.gate_\w+)\.fc1\.", r"\1.expand."),
    (r"^(fusion\.\d\.gate_\w+)\.fc2\.", r"\1.reduce."),
    (r"^(fusion\.\d\.gate_\w+)\.dwconv\.conv\.", r"\1.depthwise."),
    (r"^decode_head\.psp_modules\.(\d)\.1\.", r"head.decoder.psp.blocks.\1.1."),
    (r"^decode_head\.bottleneck\.", "head.decoder.psp.out_conv."),
    (r"^decode_head\.fpn_bottleneck\.", "head.decoder.fusion_block."),
    # The original counts pyramid levels from the finest, ours from the coarsest.
    *(
        (rf"^decode_head\.lateral_convs\.{i}\.", f"head.decoder.fpn_lateral_blocks.{2 - i}.conv_norm_relu.")
        for i in range(3)
    ),
    *((rf"^decode_head\.fpn_convs\.{i}\.", f"head.decoder.fpn_conv_blocks.{2 - i}.") for i in range(3)),
    (r"^decode_head\.conv_seg\.", "head.classifier.1."),
    (r"^auxiliary_head\.convs\.0\.", "auxiliary.conv."),
    (r"^auxiliary_head\.conv_seg\.", "auxiliary.classifier.1."),
    # Convolution and norm of a pair are its first and second member.
    (r"\.conv\.(weight|bias)$", r".0.\1"),
    (r"\.bn\.(\w+)$", r".1.\1"),
)


def rename_asanet(key: str) -> str:
    """Return ASANet's name here for the original's ``key``."""
    return rename(ASANET_RULES, key)


def infer_asanet(shapes: Shapes) -> dict[str, Any]:
    """Return ASANet's arguments from the original's shapes.

    Ablations are recognised by what is missing: no ``FRMs`` without Semantic Focusing, no ``FFMs`` with plain sums.

    Raises:
        KeyError: If a weight that every ASANet has is missing.
    """
    rgb, sar = "backbone.backbone.", "backbone.backbone2."
    stem = "downsample_layers.0.0.weight"
    downsamples = (stem, *(f"downsample_layers.{i}.1.weight" for i in range(1, STAGES)))
    dims = [shapes[rgb + key][0] for key in downsamples]
    blocks = {match.groups() for key in shapes if (match := re.match(rf"{re.escape(rgb)}stages\.(\d+)\.(\d+)\.", key))}
    depths = [sum(stage == str(i) for stage, _ in blocks) for i in range(STAGES)]
    classes, width = shapes["decode_head.conv_seg.weight"][:2]
    return {
        "num_classes": classes,
        "in_channels": (shapes[rgb + stem][1], shapes[sar + stem][1]),
        "encoder": name_encoder(depths, dims),
        "sfm": any(key.startswith("backbone.FRMs.") for key in shapes),
        "fusion": "cfm" if any(key.startswith("backbone.FFMs.") for key in shapes) else "sum",
        "decoder_channels": width,
        "auxiliary_channels": shapes["auxiliary_head.conv_seg.weight"][1],
    }


def name_encoder(depths: Sequence[int], dims: Sequence[int]) -> str | dict[str, list[int]]:
    """Return timm's name of the ConvNeXt-V2 with these sizes, or the sizes where it has none."""
    sizes = (tuple(depths), tuple(dims))
    return _named_sizes().get(sizes) or {"depths": list(depths), "dims": list(dims)}


@functools.cache
def _named_sizes() -> dict[tuple[tuple[int, ...], tuple[int, ...]], str]:
    found = {}
    for name in encoder_names():
        with torch.device("meta"):
            trunk = build_trunk(name, 3)
        depths = tuple(len(stage.blocks) for stage in trunk.stages)
        found[depths, tuple(info["num_chs"] for info in trunk.feature_info)] = name
    return found


LAYOUTS: dict[str, Layout] = {
    "asanet": Layout(
        channel_order="bgr",
        rgb_stem="rgb_encoder.stem.0.weight",
        sar_stem="sar_encoder.stem.0.weight",
        infer=infer_asanet,
        rename=rename_asanet,
    ),
    "cmx": Layout(
        channel_order="bgr",
        rgb_stem="rgb_encoder.embeds.0.proj.weight",
        sar_stem="sar_encoder.embeds.0.proj.weight",
        infer=infer_cmx,
        rename=functools.partial(rename, CMX_RULES),
    ),
    "cmfnet": Layout(
        channel_order="rgb",
        rgb_stem="rgb_encoder.stages.0.0.conv.weight",
        sar_stem="sar_encoder.stages.0.0.conv.weight",
        infer=infer_cmfnet,
        rename=functools.partial(rename, CMFNET_RULES),
        public_data=False,
    ),
    "ftransunet": Layout(
        channel_order="rgb",
        rgb_stem="rgb_encoder.root.0.weight",
        sar_stem="sar_encoder.root.0.weight",
        infer=infer_ftransunet,
        rename=functools.partial(rename, FTRANSUNET_RULES),
        public_data=False,
    ),
    "fusenet": Layout(
        channel_order="bgr",
        rgb_stem="rgb_encoder.stages.0.0.conv.weight",
        sar_stem="sar_encoder.stages.0.0.conv.weight",
        infer=infer_fusenet,
        rename=functools.partial(rename, FUSENET_RULES),
    ),
    "sagate": Layout(
        channel_order="bgr",
        rgb_stem="rgb_encoder.trunk.conv1.0.weight",
        sar_stem="sar_encoder.trunk.conv1.0.weight",
        infer=infer_sagate,
        rename=functools.partial(rename, SAGATE_RULES),
    ),
}
"""Original checkpoints that can be converted, by registry name."""


def layout_of(name: str) -> Layout:
    """Return the layout of network ``name``.

    Raises:
        CheckpointError: If its original checkpoints cannot be converted.
    """
    if name not in LAYOUTS:
        raise CheckpointError(
            f"Official checkpoints of model {name!r} cannot be converted.", f"Known are {', '.join(LAYOUTS)}."
        )
    return LAYOUTS[name]
