"""Forward passes as ``predict`` runs them against the same networks run plainly, on this machine.

    python scripts/bench_network.py                     all networks, fp32
    python scripts/bench_network.py asanet cmx          some of them
    python scripts/bench_network.py --threads 1         one image after the other on one thread, CPU time
    python scripts/bench_network.py asanet --precision fp32,bf16 --compile

Random weights, 256 x 256 px. The peer is the network as it was built, in eval mode, eager, fp32, one image after the
other on all cores (on CUDA: a batch under AMP in bf16). Ours is what ``predict`` does: the network in its form for
inference, on a CPU in lanes. Both take turns; medians of wall time. ``--threads`` leaves the lanes out and takes CPU
time, which other programs at work do not lengthen. Beside them stands how long the multiplications that are left would
take at the speed of a large matrix product.
"""

# ruff: noqa: E402
from __future__ import annotations

from geoasanet.processor import choose_openblas_kernels

choose_openblas_kernels()  # as the command does, before anything loads NumPy

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.device import DTYPES, choose_device, computing_in, keep_freed_memory
from geoasanet.inference.lanes import LanePlan, Lanes
from geoasanet.inference.predictor import KEPT_BYTES, compiled
from geoasanet.models.accelerate import accelerate
from geoasanet.models.registry import create_model, model_names
from geoasanet.tools.machine import describe_machine

SIDE = 256


class Timer:
    """Times calls in wall time, or in CPU time where the number of threads is given."""

    def __init__(self, device: torch.device, threads: int | None) -> None:
        self._device = device
        self._now = time.perf_counter if threads is None else time.process_time

    def __call__(self, run: Callable[[], object]) -> float:
        """Return the seconds that ``run`` takes."""
        began = self._clock()
        run()
        return self._clock() - began

    def _clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._now()


def matrix_speed(timed: Timer, device: torch.device, dtype: torch.dtype) -> float:
    """Return multiply-accumulates per second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.rand(side, side, device=device, dtype=dtype)
    times = [timed(lambda: a @ a) for _ in range(8)]
    return float(side**3 / min(times[1:]))


def bench(name: str, options: argparse.Namespace, device: torch.device) -> None:
    torch.manual_seed(0)
    timed = Timer(device, options.threads)
    plan = LanePlan.of_machine() if device.type == "cpu" and options.threads is None else None
    turn = 4 * plan.lanes if plan is not None else 1  # `predict` starts its lanes once for all windows
    plain = create_model(name, 6, (3, 1)).eval().to(device)
    images = [torch.randn(options.batch, bands, SIDE, SIDE, device=device) for bands in (3, 1)]
    turned = [image.contiguous(memory_format=torch.channels_last) for image in images]
    plain_type = torch.bfloat16 if device.type == "cuda" else torch.float32
    for precision in options.precision.split(","):
        fast = accelerate(plain, device, precision).to(device)
        with FlopCounterMode(display=False) as counter:
            fast(*turned)
        operations = counter.get_total_flops() / 2
        floor = operations / matrix_speed(timed, device, DTYPES[precision])
        for compile in (False, True) if options.compile else (False,):
            network = compiled(fast, device, options.batch) if compile else fast

            def run_plain() -> None:
                with torch.autocast(device.type, dtype=plain_type, enabled=device.type == "cuda"):
                    for _ in range(turn):
                        plain(*images)

            @torch.inference_mode()
            def call(network: Callable[..., object] = network, precision: Any = precision) -> None:
                with computing_in(precision, device):
                    network(*turned)

            def run_fast(call: Callable[[], None] = call) -> None:
                with Lanes(plan) as lanes:
                    for running in [lanes.submit(call) for _ in range(turn)]:
                        running.result()

            run_plain()
            began = time.perf_counter()
            run_fast()
            start = time.perf_counter() - began
            pairs = [(timed(run_plain) / turn, timed(run_fast) / turn) for _ in range(options.repeat)]
            ratio = statistics.median(a / b for a, b in pairs)
            usual, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
            label = f"{precision}{' compiled' if compile else ''}"
            print(
                f"{name:11} {label:14} {ratio:5.2f} x  plain {usual / options.batch * 1e3:7.1f} ms, ours "
                f"{ours / options.batch * 1e3:7.1f} ms, multiplications alone {floor / options.batch * 1e3:7.1f} ms "
                f"per image, {operations / options.batch / 1e9:.2f} GMAC, first call {start:.1f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="[all]")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or both, with a comma")
    parser.add_argument("--compile", action="store_true", help="measure also compiled (slow to start)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, help="[1 on a CPU, 32 on CUDA]")
    parser.add_argument("--threads", type=int, help="CPU threads for one image after the other")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    device = choose_device(options.device)
    options.batch = options.batch or (32 if device.type == "cuda" else 1)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if device.type == "cpu":
        keep_freed_memory(KEPT_BYTES)  # as `predict` does; it is for the whole process, so the peer has it too
    machine = describe_machine(device)
    print(
        f"{machine.processor}, {machine.cores} cores, {machine.device}, torch {machine.torch}, "
        f"load {machine.load:.1f}; {torch.get_num_threads()} threads, batch {options.batch}"
    )
    with torch.inference_mode():
        for name in options.models or model_names():
            bench(name, options, device)


if __name__ == "__main__":
    main()
