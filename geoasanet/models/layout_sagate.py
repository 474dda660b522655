"""How the two public codes of SA-Gate name its weights; they differ in the heads only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geoasanet.models.encoders import STAGES, name_sizes
from geoasanet.models.resnet import resnet_sizes

SAGATE_RULES: tuple[tuple[str, str], ...] = (
    # "hha" is the second image; the shortcuts that both streams share are named twice, here as there.
    (r"^backbone\.((?:layer\d\.\d+\.)?)hha_", r"sar_encoder.trunk.\1"),
    (r"^backbone\.(?=conv1|bn1|layer)", "rgb_encoder.trunk."),
    (r"^backbone\.sagates\.", "fusion."),
    (r"\.fsp_rgb\.filter\.fc\.", ".propagate_rgb.weigh."),
    (r"\.fsp_hha\.filter\.fc\.", ".propagate_sar.weigh."),
    (r"\.gate_hha\.", ".gate_sar."),
    (r"^head\.auxlayer\.block\.([01])\.", r"auxiliary.conv.\1."),
    (r"^head\.auxlayer\.block\.4\.", "auxiliary.classifier.1."),
    (r"^auxiliary_head\.convs\.0\.conv\.", "auxiliary.conv.0."),
    (r"^auxiliary_head\.convs\.0\.bn\.", "auxiliary.conv.1."),
    (r"^auxiliary_head\.conv_seg\.", "auxiliary.classifier.1."),
    (r"^(?:decode_)?head\.aspp\.", "head.pyramid."),
    (r"^head\.pyramid\.map_convs\.", "head.pyramid.branches."),
    (r"^head\.pyramid\.map_bn\.", "head.pyramid.norm."),
    (r"^head\.pyramid\.red_conv\.", "head.pyramid.reduce."),
    (r"^head\.pyramid\.red_bn\.", "head.pyramid.out_norm."),
    (r"^head\.pyramid\.global_pooling_conv\.", "head.pyramid.pooled."),
    (r"^head\.pyramid\.global_pooling_bn\.", "head.pyramid.pooled_norm."),
    (r"^head\.pyramid\.pool_red_conv\.", "head.pyramid.pooled_reduce."),
    (r"^decode_head\.c1_bottleneck\.", "head.edges."),
    (r"^head\.reduce\.0\.", "head.edges.conv."),
    (r"^head\.reduce\.1\.", "head.edges.bn."),
    (r"^decode_head\.last_conv\.(\d)\.", r"head.blocks.\1."),
    *((rf"^head\.last_conv\.{3 * j}\.", f"head.blocks.{j}.conv.") for j in range(2)),
    *((rf"^head\.last_conv\.{3 * j + 1}\.", f"head.blocks.{j}.bn.") for j in range(2)),
    (r"^(?:decode_head\.conv_seg|head\.classify)\.", "head.classifier.1."),
)
"""Patterns of the originals' names and what replaces them, in order."""


def infer_sagate(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return SA-Gate's arguments from an original's shapes.

    Raises:
        KeyError: If a weight that every SA-Gate has is missing.
    """
    official = "head.classify.weight" in shapes
    classes, width = shapes["head.classify.weight" if official else "decode_head.conv_seg.weight"][:2]
    blocks = {match.groups() for key in shapes if (match := re.match(r"backbone\.layer(\d)\.(\d+)\.", key))}
    depths = tuple(sum(stage == str(i + 1) for stage, _ in blocks) for i in range(STAGES))
    dims = tuple(shapes[f"backbone.layer{i + 1}.0.conv1.weight"][0] for i in range(STAGES))
    auxiliary = "head.auxlayer.block.4.weight" if official else "auxiliary_head.conv_seg.weight"
    return {
        "num_classes": classes,
        "in_channels": (shapes["backbone.conv1.0.weight"][1], shapes["backbone.hha_conv1.0.weight"][1]),
        "encoder": name_sizes((depths, dims), resnet_sizes(deep_stem=True)),
        "variant": "official" if official else "table",
        "decoder_channels": width,
        "auxiliary_channels": shapes[auxiliary][1],
    }
