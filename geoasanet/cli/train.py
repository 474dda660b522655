"""``geoasanet train``: from a dataset folder to a checkpoint."""

from __future__ import annotations

import ast
import inspect
import shlex
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.config import SHIPPED, TrainConfig, shipped_configs
from geoasanet.garbage import uncollected

if TYPE_CHECKING:
    from geoasanet.tools.trainjob import TrainResult


def _shown(value: Any) -> str:
    """Return a configuration's value as it is written in YAML."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _keys() -> list[tuple[str, str]]:
    """Return each key of a configuration with its default, and what it means: the text below the field."""
    body = next(n for n in ast.parse(inspect.getsource(TrainConfig)).body if isinstance(n, ast.ClassDef)).body
    rows: list[tuple[str, str]] = []
    defaults = TrainConfig().to_dict()
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            key = field.target.id
            meaning = ast.literal_eval(text.value).replace("``", "")
            rows.append((f"{key}={_shown(defaults[key])}", " ".join(meaning.split())))
    return rows


class CommandWithKeys(click.Command):
    """Ends its help with the keys of a configuration."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what every key means."""
        with formatter.section("Keys of a configuration and of --set, with their defaults"):
            formatter.write_dl(_keys(), col_max=34)


_CONFIGS = "\n".join(textwrap.wrap(", ".join(shipped_configs()), 76, break_on_hyphens=False))

_HELP = f"""
Train a network on a dataset that geoasanet tile made.

CONFIG is a YAML file or the name of a shipped one; the default, {SHIPPED}, is the paper's recipe. A configuration is
flat: keys and values, those left out have their defaults. An unknown key, a wrong type or an impossible value is
refused before any data is read. Shipped are:

\b
{_CONFIGS}

The folder of the run gets best.safetensors and last.safetensors, config.yaml as it was used, metrics.csv, curves.png,
TensorBoard events, and state.pt, from which an interrupted run goes on as if it had not been. runs/latest leads to the
newest run, where predict and eval look.

\b
geoasanet train
geoasanet train {SHIPPED} --data tiles --max-iters 2000 --set batch_size=4 --set lr=5e-5
geoasanet train my.yaml --out runs/city --set 'encoder=convnextv2_atto' --set class_weights=auto
geoasanet train --resume runs/city
geoasanet train --gpus 2
geoasanet train --gpus 2 --device cpu
torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
    -m geoasanet train --out runs/city
"""


@click.command("train", cls=CommandWithKeys, help=_HELP, short_help="Train a network on a dataset.")
@click.argument("config", required=False)
@click.option(
    "--data", type=options.PATH, metavar="DIR", help="Dataset folder.  [default: tiles, or the configuration's]"
)
@click.option(
    "--out", "-o", type=options.PATH, metavar="DIR", help="Folder of the run.  [default: runs/<configuration>_<time>]"
)
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes on this machine, each on a GPU of its own, or all on CPU. Not under torchrun.  [default: 1]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes a GPU where there is one.",
)
@click.option("--resume", type=options.PATH, metavar="RUN", help="Go on with the interrupted run in this folder.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="Arithmetic of the network.  [default: the configuration's]",
)
@options.compile_network
@click.option(
    "--max-iters",
    type=click.IntRange(min=1),
    metavar="N",
    help="Optimiser steps; the learning rate then falls to its end by that step.  [default: the configuration's]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the configuration, value in YAML; may be given several times.",
)
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, config: str | None, compile: bool, out: Path | None, **arguments: Any) -> None:
    """Train a network; the help text is above."""
    from geoasanet.cli.trainview import TrainView

    with uncollected():
        from geoasanet.tools.train import train

    with TrainView(console) as view:
        try:
            result = train(config, out=out, compile=compile or None, watch=view, **arguments)
        except KeyboardInterrupt:
            view.close()
            _say_how_to_go_on(console, view.run.out if view.run is not None else arguments["resume"] or out)
            raise click.Abort from None
    if not result.first:
        return
    console.report(result.to_dict(), _lines(result))


def _say_how_to_go_on(console: Console, folder: Path | None) -> None:
    from geoasanet.training.state import NAME

    if folder is not None and (folder / NAME).is_file():
        console.note(f"The run goes on with: geoasanet train --resume {shlex.quote(str(folder))}")


def _lines(result: TrainResult) -> list[str]:
    from geoasanet.cli.trainscreen import duration, number

    lines = [f"Run: {result.out} ({result.iterations} iterations, {duration(result.seconds)})"]
    metrics, checkpoint = result.metrics, result.best or result.last
    if metrics is not None:
        width = max(map(len, result.classes.names))
        lines += [
            f"  best mIoU {number(metrics.mean_iou)} at iteration {result.best_iteration}, on the val tiles",
            f"  overall accuracy {number(metrics.accuracy)}   mean F1 {number(metrics.mean_f1)}   "
            f"kappa {number(metrics.kappa)}",
            f"  {'class':<{width}}     IoU  precision  recall",
        ]
        for name, *values in zip(result.classes.names, metrics.iou, metrics.precision, metrics.recall, strict=True):
            iou, precision, recall = (number(float(value)) for value in values)
            lines.append(f"  {name:<{width}}  {iou:>6}     {precision:>6}  {recall:>6}")
    target = shlex.quote(str(result.out if result.best is not None else result.last))
    return [*lines, f"Checkpoint: {checkpoint}", f"Next: geoasanet predict scene_rgb.tif scene_sar.tif -c {target}"]
