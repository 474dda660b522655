"""How the two public codes of FuseNet name its weights: the ASANet paper's, and the PyTorch port of FuseNet-SF5.

Both are written for VGG-16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoasanet.models.encoders import name_sizes
from geoasanet.models.vgg import SIZES, STAGES

DEPTHS = SIZES["vgg16_bn"][0]


def _number_blocks() -> tuple[tuple[str, str], ...]:
    rules: list[tuple[str, str]] = []
    position = 0
    for i, depth in enumerate(DEPTHS):
        for j in range(depth):
            # The paper's code counts blocks through, and the pooling after a stage as well.
            rules.append((rf"(_encoder)\.features\.{position}\.", rf"\1.stages.{i}.{j}."))
            # The port counts the layers of a stage, three to a block.
            rules.append((rf"^CBR{i + 1}_RGB\.{3 * j}\.", f"rgb_encoder.stages.{i}.{j}.conv."))
            rules.append((rf"^CBR{i + 1}_RGB\.{3 * j + 1}\.", f"rgb_encoder.stages.{i}.{j}.bn."))
            # Its first SAR convolution stands alone, so that the rest of that stage counts from the norm.
            first = 3 * j - (i == 0)
            rules.append((rf"^CBR{i + 1}_D\.{first}\.", f"sar_encoder.stages.{i}.{j}.conv."))
            rules.append((rf"^CBR{i + 1}_D\.{first + 1}\.", f"sar_encoder.stages.{i}.{j}.bn."))
            rules.append((rf"^CBR{i + 1}_Dec\.{3 * j}\.", f"decoder.{i}.{j}.conv."))
            rules.append((rf"^CBR{i + 1}_Dec\.{3 * j + 1}\.", f"decoder.{i}.{j}.bn."))
            position += 1
        position += 1
    return tuple(rules)


FUSENET_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.backbone\.", "rgb_encoder."),
    (r"^backbone\.backbone2\.", "sar_encoder."),
    (r"^conv11d\.", "sar_encoder.stages.0.0.conv."),
    *_number_blocks(),
    (r"^decoder\.0\.1\.conv\.", "head."),
    (r"^backbone\.fuse_convs\.(\d)\.", r"fusion.\1.mix."),
    (r"^backbone\.decoder_convs\.", "decoder."),
    (r"^decode_head\.", "head."),
    (r"^auxiliary_head\.", "auxiliary."),
    (r"^(head|auxiliary)\.convs\.0\.conv\.", r"\1.conv.0."),
    (r"^(head|auxiliary)\.convs\.0\.bn\.", r"\1.conv.1."),
    (r"^(head|auxiliary)\.conv_seg\.", r"\1.classifier.1."),
)
"""Patterns of the originals' names and what replaces them, in order."""


def infer_fusenet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return FuseNet's arguments from an original's shapes; what the paper's code trains is not chained.

    Raises:
        KeyError: If a weight that every FuseNet has is missing.
    """
    sf5 = "conv11d.weight" in shapes
    if sf5:
        rgb_stem, sar_stem, classifier = "CBR1_RGB.0.weight", "conv11d.weight", "CBR1_Dec.3.weight"
        dims = tuple(shapes[f"CBR{i + 1}_RGB.0.weight"][0] for i in range(STAGES))
    else:
        rgb, sar = "backbone.backbone.features", "backbone.backbone2.features"
        rgb_stem, sar_stem, classifier = f"{rgb}.0.conv.weight", f"{sar}.0.conv.weight", "decode_head.conv_seg.weight"
        dims = tuple(shapes[f"backbone.fuse_convs.{i}.conv.weight"][0] for i in range(STAGES))
    return {
        "num_classes": shapes[classifier][0],
        "in_channels": (shapes[rgb_stem][1], shapes[sar_stem][1]),
        "encoder": name_sizes((DEPTHS, dims), SIZES),
        "variant": "sf5" if sf5 else "vfusenet",
        "decoder": "chained" if sf5 else "unchained",
    }
