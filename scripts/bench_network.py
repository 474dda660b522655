"""Forward passes as ``predict`` runs them against the same networks run plainly, on this machine.

    python scripts/bench_network.py                     all networks, fp32
    python scripts/bench_network.py asanet cmx          some of them
    python scripts/bench_network.py asanet --precision fp32,bf16 --compile

Random weights, 256 x 256 px. The peer is the network as it was built, in eval mode, eager, fp32 (on CUDA: under AMP in
bf16, which is what a plain script would use). Both take turns; times are medians, CPU time on a CPU, where other
programs may be at work, and wall time on CUDA. Beside them stands how long the multiplications alone would take at the
speed of a large matrix product in fp32: what no arrangement of this network in this arithmetic can beat.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from geoasanet.device import choose_device, computing_in
from geoasanet.inference.predictor import compiled
from geoasanet.models.accelerate import accelerate
from geoasanet.models.registry import create_model, model_names
from geoasanet.tools.machine import describe_machine

SIDE = 256


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def timed(run: Callable[[], object], device: torch.device) -> float:
    began = clock(device)
    run()
    return clock(device) - began


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Return multiply-accumulates per second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.rand(side, side, device=device, dtype=dtype)
    times = [timed(lambda: a @ a, device) for _ in range(8)]
    return float(side**3 / min(times[1:]))


def bench(name: str, options: argparse.Namespace, device: torch.device) -> None:
    torch.manual_seed(0)
    plain = create_model(name, 6, (3, 1)).eval().to(device)
    fast = accelerate(plain, device).to(device)
    images = [torch.randn(options.batch, bands, SIDE, SIDE, device=device) for bands in (3, 1)]
    turned = [image.contiguous(memory_format=torch.channels_last) for image in images]
    plain_type = torch.bfloat16 if device.type == "cuda" else torch.float32
    with FlopCounterMode(display=False) as counter:
        fast(*turned)
    operations = counter.get_total_flops() / 2
    floor = operations / matrix_speed(device, plain_type)
    for precision in options.precision.split(","):
        for compile in (False, True) if options.compile else (False,):
            network = compiled(fast, device, options.batch) if compile else fast

            def run_plain() -> object:
                with torch.autocast(device.type, dtype=plain_type, enabled=device.type == "cuda"):
                    return plain(*images)

            def run_fast(network: Callable[..., object] = network, precision: Any = precision) -> object:
                with computing_in(precision, device):
                    return network(*turned)

            run_plain()
            began = time.perf_counter()
            run_fast()
            start = time.perf_counter() - began
            pairs = [(timed(run_plain, device), timed(run_fast, device)) for _ in range(options.repeat)]
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
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with 1, CPU time is not spent waiting")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    device = choose_device(options.device)
    options.batch = options.batch or (32 if device.type == "cuda" else 1)
    torch.set_num_threads(options.threads)
    machine = describe_machine(device)
    print(
        f"{machine.processor}, {machine.cores} cores, {machine.device}, torch {machine.torch}, "
        f"load {machine.load:.1f}; {options.threads} threads, batch {options.batch}"
    )
    with torch.inference_mode():
        for name in options.models or model_names():
            bench(name, options, device)


if __name__ == "__main__":
    main()
