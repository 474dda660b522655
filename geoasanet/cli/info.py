"""``geoasanet info``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.garbage import uncollected


@click.command("info")
@click.argument("path")
@options.json_output
@with_console
def command(console: Console, *, path: str) -> None:
    """Say what a file or dataset is, and whether it is fit for use.

    PATH is a raster (scene or map), a checkpoint (file, run folder or packaged name), a dataset folder or a vector
    file. The exit code is 0 if it is fit, else 1.
    """
    with uncollected():
        from geoasanet.tools.info import info

    result = info(path)
    lines = [f"{result.path}: {result.kind}", *_lines(result.facts)]
    lines += [f"  problem: {problem}" for problem in result.problems]
    lines.append("Fit for use." if result.fit else "Not fit for use.")
    console.report(result.to_dict(), lines)
    if not result.fit:
        raise click.exceptions.Exit(1)


def _lines(facts: Mapping[str, Any], indent: str = "  ") -> list[str]:
    lines = []
    for key, value in facts.items():
        if value is None or value in ([], {}, ""):
            continue
        label = key.replace("_", " ")
        if key == "classes" and isinstance(value, list):
            lines.append(f"{indent}classes")
            lines += [f"{indent}  {_class(c)}" for c in value]
        elif isinstance(value, Mapping):
            lines += [f"{indent}{label}", *_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple) and all(isinstance(v, Mapping) for v in value):
            lines.append(f"{indent}{label}")
            lines += [f"{indent}  {_pairs(v)}" for v in value]
        elif isinstance(value, list | tuple):
            lines.append(f"{indent}{label}: {', '.join(_text(v) for v in value)}")
        else:
            lines.append(f"{indent}{label}: {_text(value)}")
    return lines


def _class(entry: Mapping[str, Any]) -> str:
    share = f"  {100 * entry['share']:.2f} %" if "share" in entry else ""
    weight = f"  weight {entry['weight']:.4g}" if "weight" in entry else ""
    return f"{entry['id']:>3} {entry['name']}  #{_hex(entry['color'])}{share}{weight}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items() if value is not None)


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _hex(color: list[int]) -> str:
    return "".join(f"{v:02x}" for v in color)
