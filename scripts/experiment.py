"""What the experiment scripts share: runs that are done, means with their spread, curves, the machine's name."""

from __future__ import annotations

import csv
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_vectorize import processor

RESULTS = Path(__file__).parent / "results"


def finish(out: Path, config: Any, data: Path, settings: Sequence[str] = ()) -> None:
    """Train a run in ``out``, or go on with it, unless it is done."""
    from geoasanet.tools.train import train

    if (out / "done").exists():
        return
    print(out.name, flush=True)
    if (out / "state.pt").exists():
        result = train(resume=out)
    else:
        result = train(config, data=data, out=out, settings=settings, overwrite=True)
    assert result.metrics is not None
    print(f"  val mIoU {result.metrics.mean_iou:.4f} in {result.seconds / 60:.1f} min", flush=True)
    (out / "done").touch()


def one_thread(threads: int) -> None:
    """Let torch use ``threads``; several runs beside each other are faster so than each on all cores."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(threads)


def finished(work: Path, prefix: str) -> list[Path]:
    """Return the folders of the runs of one variant that are done, by seed."""
    return sorted(path.parent for path in (work / "runs").glob(f"{prefix}_[0-9]*/done"))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return mean ± standard deviation in percent; without the latter where there is one value."""
    percent = [100 * value for value in values]
    text = f"{statistics.mean(percent):.{digits}f}"
    return f"{text} ± {statistics.stdev(percent):.{digits}f}" if len(percent) > 1 else text


def course(run: Path) -> tuple[list[int], list[float]]:
    """Return iterations and val mIoU of a run."""
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["miou"]]
    return [int(row["iteration"]) for row in rows], [float(row["miou"]) for row in rows]


def draw(variants: Mapping[str, Sequence[Path]], title: str, out: Path) -> None:
    """Draw the val mIoU of every run, one colour for each variant, the mean of its seeds in bold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    colors = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#6c4f77", "#8d6346", "#17202a", "#c39bd3")
    for color, (name, runs) in zip(colors, variants.items(), strict=False):
        courses = [course(run) for run in runs]
        for steps, values in courses:
            axes.plot(steps, values, color=color, alpha=0.3, linewidth=1)
        if courses:
            means = [statistics.mean(column) for column in zip(*(values for _, values in courses), strict=True)]
            axes.plot(courses[0][0], means, color=color, linewidth=2, label=f"{name} ({len(runs)})")
    axes.set(xlabel="iteration", ylabel="mIoU on val", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, title="variant (seeds)", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    FigureCanvasAgg(figure).print_png(out)


def machine() -> str:
    """Return processor and torch in words."""
    import torch

    return f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__.split('+')[0]}"


def write_json(path: Path, data: Any) -> None:
    """Write results for machines."""
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
