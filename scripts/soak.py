"""Kills, interrupts and starves runs at random moments, takes them up again, and checks every result.

    python scripts/soak.py --minutes 30      all jobs, until the time is over
    python scripts/soak.py --minutes 90 --cycles 100 --jobs predict,predict-2     predict with one and two workers

A cycle is one job (a command on a small synthetic scene), started up to four times: all starts but the last meet a
fault at a random moment, the last one none. After each start the outputs must be absent or whole; at the end they must
be those of a run without faults (rasters byte for byte, with their tags; vector files feature by feature), nothing may
be left beside them, the inputs must be untouched, and no run may have hung or shown a traceback.

Faults: SIGKILL of all processes of the run, SIGKILL of its main process alone, SIGKILL of one worker, Ctrl-C, and a
largest file size in place of a full disk. Runs are forked from this process, which has loaded all libraries, so that
faults meet the work and not the imports; workers of ``--gpus 2`` are started anew as always.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
HANG_SECONDS = 600

PREPARE = """
import sys, numpy as np, rasterio, torch, geopandas, shapely
import geoasanet as ga
from geoasanet.bands import InputBands, SensorBands
from geoasanet.classes import ClassSchema
from scipy.ndimage import zoom
rng = np.random.default_rng(0)
height, width = 900, 520
transform = rasterio.Affine(10, 0, 500_000, 0, -10, 3_000_000)
def write(name, pixels):
    profile = dict(driver="GTiff", count=len(pixels), height=height, width=width, dtype=pixels.dtype, crs="EPSG:32650",
                   transform=transform, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    with rasterio.open(name, "w", **profile) as dataset:
        dataset.write(pixels)
smooth = lambda: zoom(rng.normal(size=(height // 20, width // 20)), 20, order=1)
rgb = np.stack([128 + 50 * smooth() + rng.normal(0, 4, (height, width)) for _ in range(3)])
write("rgb.tif", rgb.clip(0, 255).astype(np.uint8))
write("sar.tif", (0.2 * np.exp(0.5 * smooth()) * rng.gamma(4, 0.25, (height, width)))[None].astype(np.float32))
label = np.digitize(rgb[0], [100, 128, 156]).astype(np.uint8)
write("labels.tif", label[None])
torch.manual_seed(0)
encoder = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
model = ga.create_model("asanet", 4, (3, 1), encoder, decoder_channels=16, auxiliary_channels=8)
bands = InputBands(SensorBands((128.0,) * 3, (50.0,) * 3), SensorBands((0.2,), (0.1,), "linear"))
classes = ClassSchema.from_names(["water", "forest", "field", "town"])
ga.save_checkpoint("small.safetensors", model, classes=classes, bands=bands, window_size=64)
ga.predict("rgb.tif", "sar.tif", checkpoint="small.safetensors", out="map.tif", device="cpu")
"""


@dataclass(frozen=True)
class Job:
    """A command and what it makes; {0} is the folder of inputs."""

    arguments: str
    outputs: tuple[str, ...]
    workers: bool = False


_PREDICT = "predict {0}/rgb.tif {0}/sar.tif -c {0}/small.safetensors --device cpu -o map.tif --confidence conf.tif"
JOBS = {
    "predict": Job(f"{_PREDICT} --vectorize p.gpkg", ("map.tif", "map.tif.aux.xml", "conf.tif", "p.gpkg")),
    "predict-2": Job(f"{_PREDICT} --gpus 2", ("map.tif", "map.tif.aux.xml", "conf.tif"), workers=True),
    "tile": Job("tile {0}/rgb.tif {0}/sar.tif --labels {0}/labels.tif -o tiles --size 64 --workers 2", ("tiles",)),
    "vectorize": Job("vectorize {0}/map.tif -o p.gpkg --min-area 500 --simplify 12", ("p.gpkg",)),
}
FAULTS = ("kill all", "kill main", "kill worker", "Ctrl-C", "full disk")


def state(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return what is there of the outputs, as digests; a folder counts with everything in it."""
    found = {}
    for name in names:
        for path in sorted((folder / name).rglob("*")) if (folder / name).is_dir() else [folder / name]:
            if path.is_file():
                found[str(path.relative_to(folder))] = digest(path)
    return found


def digest(path: Path) -> str:
    if path.suffix != ".gpkg":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    import pyogrio

    whole = hashlib.sha256()  # the file's own bytes hold the time of writing
    for layer, kind in pyogrio.list_layers(path):
        if kind is None:
            continue  # the style, with its time
        meta, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
        whole.update(repr((layer, meta["crs"], meta["fields"].tolist(), list(geometry))).encode())
        whole.update(repr([field.tolist() for field in fields]).encode())
    return whole.hexdigest()


def fork(arguments: list[str], folder: Path, limit: int | None) -> int:
    """Start a command in a process of its own group; its words go to ``words`` beside ``folder``."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        words = os.open(folder.with_suffix(".words"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(words, 1), os.dup2(words, 2)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from geoasanet.cli.main import main

        try:
            main([*arguments, "--no-progress"])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stderr.flush()
        os._exit(code)
    return 0


def family(pid: int) -> list[int]:
    """Return the processes that ``pid`` has started, except Python's own helper."""
    try:
        children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [p for p in children if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
    except OSError:
        return []


def strike(fault: str, pid: int) -> None:
    """Do to a run what a fault does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if fault == "kill all":
            os.killpg(pid, signal.SIGKILL)
        elif fault == "kill main":
            os.kill(pid, signal.SIGKILL)
        elif fault == "kill worker":
            for child in family(pid)[-1:]:
                os.kill(child, signal.SIGKILL)
        elif fault == "Ctrl-C":
            os.killpg(pid, signal.SIGINT)


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit code (negative: a signal), None if the process has not ended by then."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


class Soak:
    """Cycles over jobs, and what was found."""

    def __init__(self, names: list[str], seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.names = names
        self.inputs, self.place = folder / "inputs", folder / "runs"
        self.inputs.mkdir(), self.place.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", PREPARE], cwd=self.inputs, env=environment, check=True)
        self.untouched = state(folder, ("inputs",))
        self.expected: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.faults: collections.Counter[tuple[str, str]] = collections.Counter()
        self.problems: list[str] = []
        for name in names:
            for _ in range(2):  # the first run compiles
                run = self.new_folder()
                begun = time.monotonic()
                code = self.start(name, run, None, 0.0)
                self.seconds[name] = time.monotonic() - begun
                self.expected[name] = state(run, JOBS[name].outputs)
                assert code == 0 and self.expected[name], self.words(run)
                shutil.rmtree(run)

    def new_folder(self) -> Path:
        """Return an empty folder for a run."""
        return Path(tempfile.mkdtemp(dir=self.place))

    @staticmethod
    def words(run: Path) -> str:
        """Return what a run has printed."""
        return run.with_suffix(".words").read_text(errors="replace")

    def start(self, name: str, run: Path, fault: str | None, moment: float) -> int | None:
        """Start a job, let a fault meet it after ``moment`` seconds, and return its exit code."""
        arguments = JOBS[name].arguments.format(self.inputs).split()
        limit = int(10 ** self.random.uniform(2.5, 5.5)) if fault == "full disk" else None
        pid = fork(arguments, run, limit)
        code = None
        if fault is not None and limit is None:
            code = wait(pid, moment)
            if code is None:
                strike(fault, pid)
        if code is None:
            code = wait(pid, HANG_SECONDS)
        if code is None:
            self.problems.append(f"{name}: hung after {fault}")
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # orphans of a killed main process end by themselves; here at once
        return code

    def cycle(self) -> None:
        """Start a job until it is through, and check what it left each time."""
        name = self.random.choice(self.names)
        job, run = JOBS[name], self.new_folder()
        faults = [f for f in FAULTS if f != "kill worker" or job.workers]
        planned = [self.random.choice(faults) for _ in range(self.random.choice((1, 1, 2, 3)))]
        ended = False
        for fault in [*planned, None]:
            code = self.start(name, run, fault, self.random.uniform(0, 1.1 * self.seconds[name]))
            words = self.words(run)
            found = state(run, job.outputs)
            expected = self.expected[name]
            if "Traceback" in words:
                self.problem(name, fault, "traceback", words)
            if any(expected.get(path) != digest for path, digest in found.items()):
                self.problem(name, fault, "an output that is not whole", words)
            if fault is not None:
                self.faults[name, fault] += 1
            if code == 0:
                ended = True
                break
            if fault is None or (code in (1, 2) and fault != "full disk" and "died" not in words):
                self.problem(name, fault, f"exit code {code}", words)
        if ended:
            if state(run, job.outputs) != self.expected[name]:
                self.problem(name, None, "another result", "")
            left = [p.name for p in run.iterdir() if p.name.startswith(".") or p.name.endswith(".tmp")]
            if left:
                self.problem(name, None, f"left behind: {left}", "")
        if state(self.inputs.parent, ("inputs",)) != self.untouched:
            self.problem(name, None, "inputs were changed", "")
        self.counts[name, "cycles"] += 1
        shutil.rmtree(run)
        run.with_suffix(".words").unlink()

    def problem(self, name: str, fault: str | None, what: str, words: str) -> None:
        """Note what should not have happened."""
        self.problems.append(f"{name} after {fault or 'the last start'}: {what}: {words.strip()[-400:]}")
        print("PROBLEM", self.problems[-1], flush=True)

    def table(self) -> Iterator[str]:
        """Yield how many faults met each job, in Markdown."""
        yield "| job | cycles | " + " | ".join(FAULTS) + " |"
        yield "| --- | --- |" + " --- |" * len(FAULTS)
        for name in self.names:
            cells = [str(self.faults[name, fault]) for fault in FAULTS]
            yield f"| {name} | {self.counts[name, 'cycles']} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cycles", type=int, help="stop after so many cycles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"of {', '.join(JOBS)}")
    options = parser.parse_args()
    import torch

    import geoasanet.raster.polygons.coverage
    import geoasanet.tools.predict
    import geoasanet.tools.tile
    import geoasanet.tools.vectorize  # noqa: F401  # loaded here, once, for all runs

    with tempfile.TemporaryDirectory(prefix="geoasanet-soak-") as folder:
        soak = Soak(options.jobs.split(","), options.seed, Path(folder))
        end, begun = time.monotonic() + 60 * options.minutes, time.monotonic()
        while time.monotonic() < end and (options.cycles is None or soak.counts.total() < options.cycles):
            soak.cycle()
            if soak.counts.total() % 20 == 0:
                print(f"{soak.counts.total()} cycles, {len(soak.problems)} problems", flush=True)
        minutes = (time.monotonic() - begun) / 60
    print(f"\ntorch {torch.__version__}, {os.cpu_count()} cores, seed {options.seed}, {minutes:.0f} minutes")
    print("\n".join(soak.table()))
    print(f"\n{sum(soak.faults.values())} faults, {len(soak.problems)} problems")
    sys.exit(bool(soak.problems))


if __name__ == "__main__":
    main()
