"""How the public code of CMFNet names its weights: scales count from one, ``d`` is the second sensor, ``D`` decodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from geoasanet.models.encoders import name_sizes
from geoasanet.models.vgg import SIZES, STAGES

DEPTHS = SIZES["vgg16_bn"][0]
_LAYER = r"\.encoder\.layer\.(\d+)\."


def _blocks() -> Iterator[tuple[str, str]]:
    yield r"^conv1_1_D\.", "classifier."
    for i, depth in enumerate(DEPTHS):
        for j in range(1, depth + 1):
            for suffix, ours in (
                ("", f"rgb_encoder.stages.{i}.{j - 1}"),
                ("_d", f"sar_encoder.stages.{i}.{j - 1}"),
                ("_D", f"decoder.{i}.{depth - j}"),
            ):
                yield rf"^conv{i + 1}_{j}{suffix}\.", f"{ours}.conv."
                yield rf"^conv{i + 1}_{j}{suffix}_bn\.", f"{ours}.bn."


def _gates() -> Iterator[tuple[str, str]]:
    for suffix, sensor in (("", "rgb"), ("_d", "sar")):
        yield rf"^attention_{STAGES}{suffix}\.", f"fusion.{sensor}."
        for i in range(STAGES - 1):
            yield rf"^attention_{i + 1}{suffix}\.", f"unused.{i}.{sensor}."


def _transformers() -> Iterator[tuple[str, str]]:
    yield r"^mtc\.", "exchange."
    yield r"^mtc1\.", "refine."
    for sensor, d in enumerate(("", "d")):
        in_layer = rf".layers.\1.sensors.{sensor}."
        for i in range(STAGES - 1):
            k = i + 1
            yield rf"\.embeddings{d}_{k}\.position_embeddings$", f".embeds.{sensor}.positions.{i}"
            yield rf"\.embeddings{d}_{k}\.patch_embeddings\.", f".embeds.{sensor}.convs.{i}."
            yield rf"\.reconstruct_{d}{k}\.conv\.", f".restores.{sensor}.scales.{i}.1."
            yield rf"\.reconstruct_{d}{k}\.norm\.", f".restores.{sensor}.scales.{i}.2."
            yield rf"{_LAYER}attn_norm{d}{k}\.", f"{in_layer}norms.{i}."
            yield rf"{_LAYER}channel_attn\.query{d}{k}\.", f"{in_layer}queries.{i}."
            yield rf"{_LAYER}channel_attn\.out{d}{k}\.", f"{in_layer}outs.{i}."
            yield rf"{_LAYER}ffn_norm{d}{k}\.", f"{in_layer}perceptrons.{i}.0."
            yield rf"{_LAYER}ffn{d}{k}\.fc1\.", f"{in_layer}perceptrons.{i}.1."
            yield rf"{_LAYER}ffn{d}{k}\.fc2\.", f"{in_layer}perceptrons.{i}.4."
            yield rf"\.encoder\.encoder_norm{k}\.", f".norms.{i}."
        yield rf"{_LAYER}channel_attn\.(key|value){d}\.", rf".layers.\1.offers.{sensor}.\2s."
        yield rf"{_LAYER}attn_norm{('x?', 'y')[sensor]}\.", rf".layers.\1.offers.{sensor}.norm."


CMFNET_RULES: tuple[tuple[str, str], ...] = (*_blocks(), *_gates(), *_transformers())
"""Patterns of the original's names and what replaces them, in order."""


def infer_cmfnet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return CMFNet's arguments from the original's shapes.

    Raises:
        KeyError: If a weight that every CMFNet has is missing.
    """
    dims = tuple(shapes[f"conv{i + 1}_1.weight"][0] for i in range(STAGES))
    layers = {match[1] for key in shapes if (match := re.match(rf"mtc{_LAYER}", key))}
    first_queries = re.compile(r"mtc\.encoder\.layer\.0\.channel_attn\.query1\.\d+\.weight")
    return {
        "num_classes": shapes["conv1_1_D.weight"][0],
        "in_channels": (shapes["conv1_1.weight"][1], shapes["conv1_1_d.weight"][1]),
        "encoder": name_sizes((DEPTHS, dims), SIZES),
        "layers": len(layers),
        "heads": sum(first_queries.fullmatch(key) is not None for key in shapes),
    }
