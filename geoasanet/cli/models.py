"""``geoasanet models``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.cli.tables import table_lines, wrapped
from geoasanet.garbage import uncollected

if TYPE_CHECKING:
    from geoasanet.tools.models import ModelDescription, ModelInfo


@click.command("models", short_help="List the networks, or tell one in detail.")
@click.argument("name", required=False)
@options.json_output
@with_console
def command(console: Console, *, name: str | None) -> None:
    """List the networks with their size, cost and licences, or tell one in detail.

    Parameters, without those of the auxiliary head, and multiply-accumulates (GMACs) are counted for one image of
    256×256 px, 6 classes and one SAR band. Beside them stand the figures that the ASANet paper publishes.
    """
    with uncollected():
        from geoasanet.tools.models import describe_model, list_models, table_notes

    if name is None:
        models = list_models()
        console.report({**table_notes(), "models": [model.to_dict() for model in models]}, _table(models))
    else:
        description = describe_model(name)
        console.report(description.to_dict(), _detail(description))


def _table(models: tuple[ModelInfo, ...]) -> list[str]:
    papers = table_lines(
        [("Network", "left"), ("Year", "left"), ("Paper", "left"), ("Encoder", "left"), ("Weights' licence", "left")],
        [(m.name, str(m.year), m.paper, m.encoder, m.weights_licence) for m in models],
    )
    columns = [("Network", "left"), ("Params M", "right"), ("paper", "right"), ("GMACs", "right"), ("paper", "right")]
    columns += [(title, "right") for title in ("FPS", "mIoU PIE", "DDHR", "WHU")]
    sizes = table_lines(columns, [_figures(m) for m in models])
    return [
        *papers,
        "",
        *sizes,
        "",
        *wrapped(
            "Params and GMACs: counted here at 256×256 px, 6 classes, one SAR band, without auxiliary head. paper, FPS "
            "(hardware not named) and mIoU in % on PIE-RGB-SAR, DDHR-SK and WHU-OPT-SAR: as published, arXiv "
            "2412.02044. Licence: of the encoder's ImageNet weights."
        ),
        "One in detail: geoasanet models NAME",
    ]


def _figures(model: ModelInfo) -> list[str]:
    ours = f"{model.parameters / 1e6:.2f}", f"{model.macs / 1e9:.2f}"
    row = model.published
    if row is None:
        return [model.name, ours[0], "–", ours[1], *["–"] * 5]
    rates = [f"{row.fps:.1f}", *(f"{v:.2f}" for v in (row.miou_pie, row.miou_ddhr, row.miou_whu))]
    return [model.name, ours[0], f"{row.parameters_m:g}", ours[1], f"{row.gmacs:g}", *rates]


def _detail(model: ModelDescription) -> list[str]:
    info = model.info
    links = [f"https://doi.org/{info.doi}"] if info.doi else []
    links += [f"https://arxiv.org/abs/{info.arxiv}"] if info.arxiv else []
    facts = [
        ("Paper", f"{info.paper} {info.year}"),
        *(("", link) for link in links),
        ("Encoder", info.encoder),
        ("Weights", f"{info.weights_licence} ({info.weights})"),
        ("Size", f"{info.parameters / 1e6:.2f} M parameters, {info.macs / 1e9:.2f} GMACs at 256×256 px, 6 classes"),
        ("Images", _sides(model)),
        ("Auxiliary", _auxiliary(model)),
        *_published(info),
    ]
    lines = [f"{info.name}: {info.title}", ""]
    for label, text in facts:
        lines += wrapped(text, f"  {label:<10} ", " " * 13)
    for paragraph in model.about:
        lines += ["", *wrapped(paragraph, "  ")]
    lines += ["", "Arguments of create_model and of a training configuration:"]
    for argument in model.arguments:
        lines += [f"  {argument.name} = {_value(argument.default)}", *wrapped(argument.text, "      ")]
    if model.variants:
        lines += ["", "Variants:"]
    for variant in model.variants:
        size = f"{variant.parameters / 1e6:.2f} M, {variant.macs / 1e9:.2f} GMACs"
        lines += [f"  {variant.label}", *wrapped(f"{variant.text}; {size}", "      ")]
    return lines


def _sides(model: ModelDescription) -> str:
    if model.size_multiple > 1:
        return f"height and width from {model.smallest_side} px, multiples of {model.size_multiple}"
    return f"any height and width from {model.smallest_side} px"


def _auxiliary(model: ModelDescription) -> str:
    if model.auxiliary_weight is None:
        return "no auxiliary head"
    count = f"{model.info.auxiliary_parameters / 1e6:.2f} M more parameters"
    return f"a head for training only, {count}, its loss weighed {model.auxiliary_weight:g}"


def _published(info: ModelInfo) -> list[tuple[str, str]]:
    row = info.published
    if row is None:
        return []
    return [
        (
            "Published",
            f"{row.parameters_m:g} M parameters, {row.gmacs:g} GMACs, {row.fps:g} images/s (arXiv 2412.02044)",
        ),
        ("", f"mIoU {row.miou_pie:.2f} PIE-RGB-SAR, {row.miou_ddhr:.2f} DDHR-SK, {row.miou_whu:.2f} WHU-OPT-SAR"),
    ]


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value.startswith("(") else json.dumps(value)
