"""``geoasanet benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoasanet.cli import options
from geoasanet.cli.console import Console, with_console
from geoasanet.cli.tables import table_lines, wrapped
from geoasanet.garbage import uncollected

if TYPE_CHECKING:
    from geoasanet.tools.benchmark import BenchmarkResult
    from geoasanet.tools.benchmark_result import NetworkSpeed
    from geoasanet.tools.benchmark_speed import Speed


class BatchSizes(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Batch sizes separated by commas; ``auto`` looks for the best one."""

    name = "N,auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int | str, ...]:
        """Return the batch sizes."""
        if isinstance(value, tuple):
            return value
        one = options.AutoInteger()
        return tuple(one.convert(part.strip(), param, ctx) for part in str(value).split(","))


class Words(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Words separated by commas."""

    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words."""
        return value if isinstance(value, tuple) else tuple(word.strip() for word in str(value).split(","))


@click.command("benchmark", short_help="Measure the networks' and the pipeline's speed on this machine.")
@click.option(
    "--models",
    default="all",
    show_default=True,
    metavar="all|NAME,…",
    help="Networks; with arguments: asanet:encoder=convnextv2_base.",
)
@click.option("--size", type=click.IntRange(min=32), default=256, show_default=True, metavar="PX", help="Image side.")
@click.option(
    "--batch-sizes",
    type=BatchSizes(),
    default="1,auto",
    show_default=True,
    help="Images at a time; auto doubles them until that no longer helps or memory runs out.",
)
@click.option(
    "--precision", type=Words(), default="fp32,bf16", show_default=True, help="fp32, bf16 (autocast) or both."
)
@click.option("--compile/--no-compile", default=False, help="Measure also with torch.compile (slow to start).")
@options.device
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Time for every batch size.")
@click.option(
    "--pipeline",
    type=int,
    default=1024,
    show_default=True,
    metavar="PX",
    help="Side of the synthetic scene on which predict and vectorize are timed; 0 leaves them out.",
)
@click.option("--plot", type=options.PATH, metavar="OUT.png", help="Also draw speed against number of parameters.")
@options.overwrite
@options.json_output
@with_console
def command(console: Console, *, plot: Path | None, **arguments: Any) -> None:
    """Measure how fast the networks, and the pipeline around them, run on this machine.

    Images per second with their spread, one at a time and with the best batch size, and peak memory, beside parameters,
    multiply-accumulates and the speed that the ASANet paper publishes. Weights and images are random. Every network
    runs in a process of its own. Then a synthetic scene is mapped with a network that costs nothing, and the map
    vectorized, which times everything else.
    """
    with uncollected():
        from geoasanet.tools.benchmark import benchmark

    result = benchmark(plot=plot, progress=console.progress, **arguments)
    console.warn([*result.warnings, *(f"{n.label}, {failure}." for n in result.networks for failure in n.failures)])
    console.report(result.to_dict(), _lines(result))


def _lines(result: BenchmarkResult) -> list[str]:
    machine = result.machine
    memory = f", {machine.memory_bytes / 1e9:.0f} GB memory" if machine.memory_bytes else ""
    device = "" if machine.device == "cpu" else f"{machine.device}; "
    lines = wrapped(
        f"{device}{machine.processor}, {machine.cores} cores, {machine.threads} used by torch{memory}; torch "
        f"{machine.torch}, Python {machine.python}"
    )
    columns = [("Network", "left"), ("Params M", "right"), ("GMACs", "right"), ("Precision", "left")]
    columns += [(title, "right") for title in ("Batch", "Images/s", "±", "Peak MB", "Paper")]
    rows = [row for network in result.networks for row in _rows(network)]
    lines += ["", *table_lines(columns, rows), ""]
    kind = "resident in the process, torch included" if machine.device == "cpu" else "that torch allocated"
    lines += wrapped(
        f"Images of {result.size}×{result.size} px, random weights; GMACs of one image. Images/s: median of the "
        f"repeats, ± half the distance of their quartiles; * the best batch of a search. Peak MB: memory {kind}. "
        "Paper: images/s in arXiv 2412.02044, 256×256 px, hardware not named."
    )
    if result.pipeline is not None:
        lines += ["", *_pipeline(result)]
    if result.plot is not None:
        lines += ["", f"Plot: {result.plot}"]
    return lines


def _rows(network: NetworkSpeed) -> list[list[str]]:
    size = [f"{network.parameters / 1e6:.1f}", f"{network.macs / 1e9:.1f}"] if network.parameters else ["–", "–"]
    paper = f"{network.published.fps:.1f}" if network.published else "–"
    speeds = network.shown()
    if not speeds:
        return [[network.label, *size, "failed", "–", "–", "–", "–", paper]]
    rows = [["", "", "", *_figures(speed), ""] for speed in speeds]
    rows[0][:3], rows[0][-1] = [network.label, *size], paper
    return rows


def _figures(speed: Speed) -> list[str]:
    precision = f"{speed.precision} comp" if speed.compiled else speed.precision
    spread = 50 * (speed.high - speed.low) / speed.images_per_second
    rate = speed.images_per_second
    return [
        precision,
        f"{speed.batch}{'*' if speed.best else ''}",
        f"{rate:.{2 if rate < 10 else 1 if rate < 100 else 0}f}",
        f"{spread:.0f} %",
        f"{speed.peak_memory_bytes / 1e6:.0f}",
    ]


def _pipeline(result: BenchmarkResult) -> list[str]:
    speed = result.pipeline
    assert speed is not None
    steps = [
        ("predict", speed.predict_mpx_per_second, speed.predict_seconds, f"{speed.windows} windows"),
        ("vectorize", speed.vectorize_mpx_per_second, speed.vectorize_seconds, f"{speed.polygons:,} polygons"),
    ]
    return [
        *wrapped(
            f"Pipeline on a synthetic scene of {speed.side}×{speed.side} px, with a network that costs nothing; peak "
            f"{speed.peak_memory_bytes / 1e6:.0f} MB:"
        ),
        *table_lines(
            [("Step", "left"), ("Mpx/s", "right"), ("Seconds", "right"), ("Of", "right")],
            [(name, f"{rate:.3g}", f"{seconds:.2f}", amount) for name, rate, seconds, amount in steps],
        ),
    ]
