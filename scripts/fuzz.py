"""Hostile and odd inputs through every command: how many, and what came of them.

    python scripts/fuzz.py --cases 2000 --seed 1 --write scripts/results/fuzz.md

Every input is generated from the seed (``tests/hostile``); none is in the repository. Each goes through all commands
that take such a file, or with ``--one`` through one of them in turn.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.hostile.cases import FAMILIES, all_cases
from tests.hostile.good import make_kit
from tests.hostile.runner import Verdict, jobs_of, run_all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="inputs (default 500)")
    parser.add_argument("--seed", type=int, default=0, help="decides all of them (default 0)")
    parser.add_argument("--family", choices=sorted(FAMILIES), action="append", help="only inputs of this sort")
    parser.add_argument("--kind", help="only kinds that contain this text")
    parser.add_argument("--command", help="only commands whose name contains this text")
    parser.add_argument("--one", action="store_true", help="one command for each input, in turn")
    parser.add_argument("--seconds", type=float, default=60, help="time limit of a command (default 60)")
    parser.add_argument("--verbose", action="store_true", help="say what each command said")
    parser.add_argument("--write", type=Path, help="write the tables to this Markdown file")
    options = parser.parse_args()

    wanted = (
        case
        for case in all_cases(options.seed)
        if (not options.family or case.family in options.family) and (options.kind or "") in case.kind
    )
    cases = list(itertools.islice(wanted, options.cases))
    jobs = [job for job in jobs_of(cases, every=not options.one) if (options.command or "") in job[1].name]
    began = time.monotonic()
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="hostile") as name:
        kit = make_kit(Path(name) / "kit")
        place = Path(name) / "work"
        place.mkdir()
        for verdict in run_all(jobs, kit, place, options.seconds):
            verdicts.append(verdict)
            if verdict.outcome == "fault" or options.verbose:
                print(f"{verdict.outcome}: {verdict.case.name} | {verdict.command} | {'; '.join(verdict.faults)}")
                print(f"    {verdict.seconds:.2f} s  {verdict.message[:600]}", flush=True)
    report = "\n".join(_report(verdicts, len(cases), options.seed, time.monotonic() - began))
    print(report)
    if options.write:
        options.write.write_text(report + "\n")
    return any(v.outcome == "fault" for v in verdicts)


def _report(verdicts: list[Verdict], cases: int, seed: int, seconds: float) -> list[str]:
    faults = [v for v in verdicts if v.outcome == "fault"]
    slowest = max(verdicts, key=lambda v: v.seconds)
    lines = [
        "# Hostile and odd inputs through the commands",
        "",
        f"`python scripts/fuzz.py --cases {cases} --seed {seed}`, {datetime.now(UTC):%Y-%m-%d}: {cases} generated "
        f"inputs, {len(verdicts)} runs of commands in {seconds / 60:.0f} minutes, {len(faults)} faults. A fault is a "
        "traceback, a hang, a crash, a partial or left-over output, an input that was modified or got a file beside "
        "it, code of the input executed, more than 1 GiB of memory, or a message that is not one clear line naming "
        "the file.",
        f"The slowest run took {slowest.seconds:.1f} s ({slowest.case.name}, {slowest.command}).",
        "",
        "## By command",
        "",
    ]
    lines += _table("command", verdicts, [v.command for v in verdicts])
    lines += ["", "## By kind of input", ""]
    lines += _table("input", verdicts, [f"{v.case.family}: {v.case.kind}" for v in verdicts])
    return lines


def _table(title: str, verdicts: list[Verdict], keys: list[str]) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for key, verdict in zip(keys, verdicts, strict=True):
        counts.setdefault(key, Counter())[verdict.outcome] += 1
    lines = [f"| {title} | runs | whole output | one clear line | fault |", "| --- | ---: | ---: | ---: | ---: |"]
    for key, count in counts.items():
        numbers = (count.total(), count["made"], count["refused"], count["fault"])
        lines.append(f"| {key.replace('|', '/')} | {' | '.join(map(str, numbers))} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
