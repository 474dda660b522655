"""How the two public codes of CMX name its weights; they differ in the head only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geoasanet.models.encoders import STAGES
from geoasanet.models.mit import MIT_RULES, mix_transformer_sizes

CMX_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.extra_(?=patch_embed|block|norm)", "sar_encoder."),
    (r"^backbone\.(?=patch_embed|block|norm)", "rgb_encoder."),
    *MIT_RULES,
    (r"^backbone\.FRMs\.(\d)\.channel_weights\.mlp\.", r"rectification.\1.weigh_channels."),
    (r"^backbone\.FRMs\.(\d)\.spatial_weights\.mlp\.", r"rectification.\1.weigh_pixels."),
    (r"^backbone\.FFMs\.(\d)\.", r"fusion.\1."),
    (r"^(fusion\.\d)\.cross\.(?:cross_attn\.)?(\w+)1\.", r"\1.rgb.\2."),
    (r"^(fusion\.\d)\.cross\.(?:cross_attn\.)?(\w+)2\.", r"\1.sar.\2."),
    (r"^(fusion\.\d\.(?:rgb|sar))\.channel_proj\.", r"\1.project."),
    (r"^(fusion\.\d\.(?:rgb|sar))\.kv\.", r"\1.key_value."),
    (r"^(fusion\.\d\.(?:rgb|sar))\.end_proj\.", r"\1.merge."),
    (r"^(fusion\.\d)\.channel_emb\.channel_embed\.", r"\1.mix."),
    (r"^(fusion\.\d)\.channel_emb\.", r"\1."),
    (r"^decode_head\.layers\.(\d)\.proj\.", r"head.projections.\1."),
    *((rf"^decode_head\.linear_c{i + 1}\.proj\.", f"head.projections.{i}.") for i in range(STAGES)),
    (r"^decode_head\.(?:fusion_conv\.conv|linear_fuse\.0)\.", "head.mix.0."),
    (r"^decode_head\.(?:fusion_conv\.bn|linear_fuse\.1)\.", "head.mix.1."),
    (r"^decode_head\.(?:conv_seg|linear_pred)\.", "head.classifier.1."),
)
"""Patterns of the originals' names and what replaces them, in order."""


def infer_cmx(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return CMX's arguments from the original's shapes.

    Raises:
        KeyError: If a weight that every CMX has is missing, or the encoder has none of the known sizes.
    """
    dims = tuple(shapes[f"backbone.patch_embed{i + 1}.proj.weight"][0] for i in range(STAGES))
    blocks = {match.groups() for key in shapes if (match := re.match(r"backbone\.block(\d)\.(\d+)\.", key))}
    depths = tuple(sum(stage == str(i + 1) for stage, _ in blocks) for i in range(STAGES))
    classifier = "decode_head.linear_pred.weight"
    classes, width = shapes[classifier if classifier in shapes else "decode_head.conv_seg.weight"][:2]
    return {
        "num_classes": classes,
        "in_channels": (
            shapes["backbone.patch_embed1.proj.weight"][1],
            shapes["backbone.extra_patch_embed1.proj.weight"][1],
        ),
        "encoder": mix_transformer_sizes()[depths, dims],
        "decoder_channels": width,
    }
