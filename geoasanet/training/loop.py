"""The training loop: steps, evaluations, saved states."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from geoasanet.config import TrainConfig
from geoasanet.errors import CheckpointError, ConfigError, GeoASANetError
from geoasanet.metrics import Metrics
from geoasanet.models.checkpoint import read_checkpoint_header, save_checkpoint
from geoasanet.training.augment import Augmentation
from geoasanet.training.calibration import Fit
from geoasanet.training.learner import Learner
from geoasanet.training.log import RunLog
from geoasanet.training.processes import Processes
from geoasanet.training.samples import Batch, TrainingStream, WholeTiles, load, stream_positions, whole_positions
from geoasanet.training.state import Loaded, save_state
from geoasanet.training.survey import Survey
from geoasanet.training.watch import Step, Validation, Watch

BEST, LAST = "best.safetensors", "last.safetensors"
_FORMAT = 1
_PACE = 20


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far."""

    iteration: int
    metrics: Metrics


@dataclass
class Run:
    """A training run between two steps."""

    folder: Path
    config: TrainConfig
    survey: Survey
    learner: Learner
    workers: int
    summary: dict[str, Any]
    """What the checkpoints say about the training, beside the scores."""
    watch: Watch
    iteration: int = 0
    """Steps done."""
    best: Best | None = None
    seconds: float = 0.0
    """Time that the steps before took, evaluations included."""

    def take_over(self, loaded: Loaded) -> list[str]:
        """Go on from a saved state; return what the user should know.

        Raises:
            CheckpointError: If the state belongs to other tiles, other classes or another network.
            ConfigError: If more iterations were done than are wanted.
        """
        try:
            return self._take_over(loaded)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            if isinstance(error, GeoASANetError):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(
                f"State {loaded.path} is none that this version writes, or does not fit the network ({reason}).",
                "Train anew.",
            ) from None

    def _take_over(self, loaded: Loaded) -> list[str]:
        state = loaded.state
        if state.get("format") != _FORMAT:
            raise CheckpointError(f"State {loaded.path} has format {state.get('format')!r}, {_FORMAT} is needed.")
        if state["tiles"] != _fingerprint(self.survey):
            raise CheckpointError(
                f"State {loaded.path} belongs to a run on other tiles: the lists of its dataset have changed.",
                "Restore the lists, or train anew.",
            )
        names = list(self.survey.classes.names)
        if state.get("classes", names) != names:
            raise CheckpointError(
                f"State {loaded.path} belongs to a run on the classes {', '.join(state['classes'])}, but the dataset "
                f"has {', '.join(names)}.",
                "Restore the dataset's classes, or train anew.",
            )
        self.learner.load_state_dict(state["learner"])
        self.iteration, self.seconds = int(state["iteration"]), float(state["seconds"])
        done, wanted = self.iteration, self.config.iterations
        if done > wanted:
            raise ConfigError(f"The run in {self.folder} has done {done} iterations, more than the {wanted} wanted.")
        notes = []
        if done == wanted:
            notes.append(f"The run in {self.folder} is complete. --max-iters with more than {done} goes on with it.")
        if state["best"] is not None:
            try:
                read_checkpoint_header(self.folder / BEST)
            except CheckpointError as error:
                notes.append(f"{error.args[0]} The next evaluation makes it anew.")
            else:
                matrix = np.asarray(state["best"]["matrix"], np.int64)
                self.best = Best(int(state["best"]["iteration"]), Metrics.from_matrix(matrix))
        return notes


def fit(run: Run, log: RunLog | None) -> None:
    """Train to the last iteration.

    Args:
        run: Where it begins; changed in place.
        log: Where numbers are written, None in processes that do not write.

    Raises:
        NonFiniteError: If loss, gradient or logits are NaN or infinite.
        ManifestError: If a tile can no longer be read.
        OutputError: If a file cannot be written.
        KeyboardInterrupt: If the user stopped it; the state is saved.
    """
    config, processes = run.config, run.learner.processes
    began = time.monotonic() - run.seconds
    pace = _Pace(config.batch_size)
    samples = training_batches(run.survey, config, processes, run.workers, start=run.iteration)
    with contextlib.closing(samples) as batches, _interruptions(processes.world == 1) as interrupted:
        while run.iteration < config.iterations:
            parts = [next(batches).to(processes.device) for _ in range(config.accumulate)]
            result = run.learner.step(parts, run.iteration)
            run.iteration += 1
            run.seconds = time.monotonic() - began
            if log is not None:
                step = _step(run, result.loss, result.lr, pace.tick())
                log.stepped(step)
                run.watch.stepped(step)
            last = run.iteration == config.iterations
            due = last or run.iteration % config.validate_every == 0
            if due:
                _evaluate(run, log)
                run.seconds = time.monotonic() - began
                pace.pause()
            if log is not None and (due or interrupted or run.iteration % config.save_every == 0):
                _save(run, log)
            if interrupted and not last:
                raise KeyboardInterrupt


def augmentation_of(config: TrainConfig) -> Augmentation:
    """Return what a configuration varies at random."""
    return Augmentation(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Augmentation)})


def training_batches(
    found: Survey, config: TrainConfig, processes: Processes, workers: int, *, start: int
) -> Generator[Batch, None, None]:
    """Yield the micro-batches of one process from iteration ``start`` on, in the order in which they are run."""
    stream = TrainingStream(found.train, augmentation_of(config), found.bands, config.seed)
    positions = stream_positions(
        start, config.iterations, config.batch_size, config.accumulate, processes.rank, processes.world
    )
    return load(stream, positions, workers=workers, pin_memory=processes.device.type == "cuda")


def _evaluate(run: Run, log: RunLog | None) -> None:
    from geoasanet.training.validate import validate

    began = time.monotonic()
    processes, config = run.learner.processes, run.config
    tiles = WholeTiles(run.survey.val, run.survey.bands)
    micro = max(1, config.batch_size // processes.world // config.accumulate)
    positions = whole_positions(len(run.survey.val.names), micro, processes.rank, processes.world)
    batches = load(tiles, positions, workers=run.workers, pin_memory=processes.device.type == "cuda")
    metrics, loss, calibration = validate(run.learner, batches)
    better = run.best is None or metrics.mean_iou > run.best.metrics.mean_iou
    if better:
        run.best = Best(run.iteration, metrics)
    if log is None:
        return
    for name, wanted in ((BEST, better), (LAST, True)):
        if wanted:
            _save_weights(run, run.folder / name, metrics, calibration)
    validation = Validation(run.iteration, metrics, loss, better, time.monotonic() - began)
    log.validated(validation)
    run.watch.validated(validation)


def _save_weights(run: Run, path: Path, metrics: Metrics, calibration: Fit) -> None:
    scores = metrics.to_dict(run.survey.classes.names)
    summary = {
        **run.summary,
        "iterations": run.iteration,
        "minutes": round(run.seconds / 60, 2),
        "val_miou": scores["miou"],
        "val_overall_accuracy": scores["overall_accuracy"],
        "val_iou": {name: values["iou"] for name, values in scores["classes"].items()},
        "calibration": {"split": "val", **calibration.to_dict()},
        "config": run.config.to_dict(),
    }
    save_checkpoint(
        path,
        run.learner.evaluated,
        classes=run.survey.classes,
        bands=run.survey.bands,
        window_size=run.config.crop_size,
        training=summary,
        temperature=calibration.temperature,
    )


def _save(run: Run, log: RunLog) -> None:
    """Write the numbers so far, then the state that stands for them."""
    log.flush()
    best = None
    if run.best is not None:
        best = {"iteration": run.best.iteration, "matrix": run.best.metrics.matrix.tolist()}
    state = {
        "format": _FORMAT,
        "iteration": run.iteration,
        "seconds": run.seconds,
        "config": run.config.to_dict(),
        "classes": list(run.survey.classes.names),
        "tiles": _fingerprint(run.survey),
        "best": best,
        "learner": run.learner.state_dict(),
    }
    save_state(run.folder, state)


def _fingerprint(survey: Survey) -> str:
    names = "\n".join(("train", *survey.train.names, "val", *survey.val.names))
    return hashlib.sha256(names.encode()).hexdigest()


def _step(run: Run, loss: float, lr: float, samples_per_second: float) -> Step:
    config = run.config
    left = (config.iterations - run.iteration) * config.batch_size / max(samples_per_second, 1e-9)
    epoch = run.iteration * config.batch_size / len(run.survey.train.names)
    return Step(run.iteration, config.iterations, epoch, loss, lr, samples_per_second, left)


class _Pace:
    """Samples per second over the last steps, evaluations left out."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._times: deque[float] = deque([time.monotonic()], maxlen=_PACE + 1)

    def tick(self) -> float:
        self._times.append(time.monotonic())
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) * self._batch_size / max(span, 1e-9)

    def pause(self) -> None:
        """Leave out the time since the last tick."""
        gap = time.monotonic() - self._times[-1]
        self._times = deque((t + gap for t in self._times), maxlen=_PACE + 1)


@contextlib.contextmanager
def _interruptions(wanted: bool) -> Iterator[list[int]]:
    """Give a list that becomes non-empty when the user or the system asks to stop; a second time stops at once."""
    asked: list[int] = []
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
