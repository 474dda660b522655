"""How the public code of FTransUNet names its weights: the second sensor's copy of a layer ends in ``d``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FRONT = "transformer.embeddings.hybrid_model."
_FRONT_PATTERN = re.escape(_FRONT)
_RESIDUAL = {"conv1": 0, "gn1": 1, "conv2": 3, "gn2": 4, "conv3": 6, "gn3": 7}
_LAYER = r"^transformer\.encoder\.layer\.(\d+)\."

FTRANSUNET_RULES: tuple[tuple[str, str], ...] = (
    (rf"^{_FRONT_PATTERN}(?:root|body)d\.", "sar_encoder."),
    (rf"^{_FRONT_PATTERN}(?:root|body)\.", "rgb_encoder."),
    (r"_encoder\.conv\.", "_encoder.root.0."),
    (r"_encoder\.gn\.", "_encoder.root.1."),
    *(
        (rf"_encoder\.block{block}\.unit{unit}\.", f"_encoder.stages.{block - 1}.{unit - 1}.")
        for block in range(1, 4)
        for unit in range(1, 10)
    ),
    *((rf"(_encoder\.stages\.\d+\.\d+)\.{name}\.", rf"\1.residual.{i}.") for name, i in _RESIDUAL.items()),
    (r"(_encoder\.stages\.\d+\.\d+)\.downsample\.", r"\1.shortcut.0."),
    (r"(_encoder\.stages\.\d+\.\d+)\.gn_proj\.", r"\1.shortcut.1."),
    # Fully connected layers of the gates stand behind the pooling here.
    *((rf"^{_FRONT_PATTERN}se_layer(\d)\.se_rgb\.fc\.{i}\.", rf"fusion.\1.rgb.{i + 1}.") for i in (0, 2)),
    *((rf"^{_FRONT_PATTERN}se_layer(\d)\.se_depth\.fc\.{i}\.", rf"fusion.\1.sar.{i + 1}.") for i in (0, 2)),
    (r"^transformer\.embeddings\.position_embeddings$", "transformer.positions"),
    (r"^transformer\.embeddings\.patch_embeddings\.", "transformer.embed_rgb."),
    (r"^transformer\.embeddings\.patch_embeddingsd\.", "transformer.embed_sar."),
    (r"^transformer\.encoder\.encoder_norm\.", "transformer.norm_rgb."),
    (r"^transformer\.encoder\.encoder_normd\.", "transformer.norm_sar."),
    (rf"{_LAYER}(\w+)d\.", r"transformer.layers.\1.sar.\2."),
    (rf"{_LAYER}attn\.(\w+)d\.", r"transformer.layers.\1.sar.\2."),
    (rf"{_LAYER}attn\.(\w+)\.", r"transformer.layers.\1.rgb.\2."),
    (rf"{_LAYER}(?!attn\.)(\w+)\.", r"transformer.layers.\1.rgb.\2."),
    *((rf"{_LAYER}attn\.w1{i + 1}$", rf"transformer.layers.\1.share_rgb.{i}") for i in (0, 1)),
    *((rf"{_LAYER}attn\.w2{i + 1}$", rf"transformer.layers.\1.share_sar.{i}") for i in (0, 1)),
    (r"\.attention_norm\.", ".norm."),
    (r"\.ffn_norm\.", ".perceptron.0."),
    (r"\.ffn\.fc1\.", ".perceptron.1."),
    (r"\.ffn\.fc2\.", ".perceptron.4."),
    (r"^decoder\.conv_more\.", "decoder.entry."),
    (r"^decoder\.blocks\.(\d)\.conv1\.", r"decoder.steps.\1.0."),
    (r"^decoder\.blocks\.(\d)\.conv2\.", r"decoder.steps.\1.1."),
    (r"^segmentation_head\.0\.", "classifier."),
)
"""Patterns of the original's names and what replaces them, in order."""


def infer_ftransunet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return FTransUNet's arguments from the original's shapes; heads, which leave no trace, have 64 channels each.

    Raises:
        KeyError: If a weight that every FTransUNet has is missing.
    """
    width, rgb_channels = shapes[f"{_FRONT}root.conv.weight"][:2]
    hidden = shapes["transformer.embeddings.patch_embeddings.weight"][0]
    units = {match.groups() for key in shapes if (match := re.match(rf"{_FRONT_PATTERN}body\.(block\d)\.(\w+)", key))}
    layers = {match[1] for key in shapes if (match := re.match(_LAYER, key))}
    return {
        "num_classes": shapes["segmentation_head.0.weight"][0],
        "in_channels": (rgb_channels, shapes[f"{_FRONT}rootd.conv.weight"][1]),
        "width": width,
        "units": [sum(block == f"block{i}" for block, _ in units) for i in range(1, 4)],
        "layers": len(layers),
        "hidden_channels": hidden,
        "heads": max(1, hidden // 64),
        "decoder_channels": [shapes[f"decoder.blocks.{i}.conv2.0.weight"][0] for i in range(4)],
    }
