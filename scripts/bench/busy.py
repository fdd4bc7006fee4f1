#!/usr/bin/env python3
"""Both engines on a busy machine: alone, next to busy loops, side by side with themselves, and under a CPU quota.

Trains the demo's supervised stage for some steps and scores one of the demo's files, both with the programs' own number of
threads. `make demo` must have run. Rounds take turns, and the median counts.

train      pairs per second
score      rows per second
of alone   the rate, divided by that of the same program alone
spinning   the same with OpenMP's and ONNX Runtime's own spinning, on as many threads (training only: GOMP_SPINCOUNT)
fair       the share that the scheduler would give threads that never wait: cores / (threads + busy loops), at most 1

A quota is a control group of the CPU controller, which needs the right to create one; without it those rows are skipped,
with a message.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUSY = "while True: pass"
# What OpenMP does by itself: it turns off the trainer's own choice.
SPINNING = {"GOMP_SPINCOUNT": "300000"}
PERIOD = 100_000


def fail(message):
    sys.exit(f"bench/busy.py: error: {message}")


def say(message):
    print("bench/busy.py: " + message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def busy_loops(count):
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextlib.contextmanager
def quota(cores):
    """A control group with this quota, as a function that a process calls to enter it."""
    second = Path("/sys/fs/cgroup/cgroup.controllers")
    is_second = second.exists() and "cpu" in second.read_text().split()
    group = Path("/sys/fs/cgroup") / ("" if is_second else "cpu") / f"seeward-bench-{os.getpid()}"
    group.mkdir()
    try:
        if is_second:
            (group / "cpu.max").write_text(f"{int(cores * PERIOD)} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD)))
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()


class Train:
    unit = "pairs/s"

    def __init__(self, arguments):
        self.arguments = arguments

    def start(self, folder, threads, spins, enter):
        sets = {"output_dir": folder / "run", "max_steps": self.arguments.steps, "logging_steps": 10,
                "threads": threads or "null", "model_name_or_path": self.arguments.demo / "init",
                "dataset_path": self.arguments.demo / "data/sft.jsonl", "report_to": "none"}
        command = [self.arguments.programs / "seeward-train", "--config", ROOT / "configs/demo/sft.yaml"]
        for key, value in sets.items():
            command += ["--set", f"{key}={value}"]
        environment = {**os.environ, **(SPINNING if spins else {})}
        return launch(command, environment, enter)

    def rate(self, folder):
        """The harmonic mean over the second half of the steps."""
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").open()]
        rates = [line["pairs_per_second"] for line in lines if "pairs_per_second" in line]
        return statistics.harmonic_mean(rates[len(rates) // 2:])


class Score:
    unit = "rows/s"

    def __init__(self, arguments):
        self.arguments = arguments

    def start(self, folder, threads, spins, enter):
        command = [self.arguments.programs / "seeward-score", "--model", self.arguments.demo / "bundles/standard",
                   "--input", self.arguments.demo / "data/iid.jsonl", "--output", folder / "scores.jsonl",
                   "--stats", folder / "stats.json"]
        command += ["--threads", threads] if threads else []
        return launch(command, dict(os.environ), enter)

    def rate(self, folder):
        stats = json.loads((folder / "stats.json").read_text())
        return stats["rows"] / stats["seconds"]


def launch(command, environment, enter):
    command = [str(part) for part in command]
    return subprocess.Popen(command, env=environment, preexec_fn=enter, stderr=subprocess.PIPE, text=True)


def rates(program, processes=1, threads=None, spins=False, enter=None):
    """The rate of each of some processes that run at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(number) for number in range(processes)]
        for each in folders:
            each.mkdir()
        running = [program.start(each, threads, spins, enter) for each in folders]
        for process in running:
            _, stderr = process.communicate()
            if process.returncode not in (0, 1):
                fail(f"{process.args[0]} failed: {stderr.strip()}")
        return [program.rate(each) for each in folders]


def mean(program, **how):
    return statistics.mean(rates(program, **how))


def situations(program, cores):
    """The name of each situation, its fair share, and how to measure it once."""
    yield "alone", 1, lambda: mean(program)
    if isinstance(program, Train):
        yield "alone, spinning", 1, lambda: mean(program, spins=True)
    for loops in range(1, cores + 1):
        share = cores / (cores + loops)

        def next_to_loops(loops=loops, **how):
            with busy_loops(loops):
                return mean(program, **how)

        yield f"{loops} busy loops", share, next_to_loops
        if isinstance(program, Train) and loops == 1:
            yield f"{loops} busy loops, spinning", share, lambda: next_to_loops(1, spins=True)
    yield "two side by side", 1 / 2, lambda: mean(program, processes=2)
    yield "two side by side, one thread each", 1 / 2, lambda: mean(program, processes=2, threads=1)

    def limited():
        with quota(1) as enter:
            return mean(program, enter=enter)

    yield "quota of one core", 1 / cores, limited


def measure(program, arguments):
    cores = len(os.sched_getaffinity(0))
    every, skipped = list(situations(program, cores)), set()
    seen = {name: [] for name, _, _ in every}
    for number in range(arguments.rounds):
        for name, _, once in every:
            if name in skipped or arguments.only not in name:
                continue
            try:
                seen[name].append(once())
            except OSError as error:
                say(f"{name} is skipped: {error}")
                skipped.add(name)
                continue
            say(f"round {number + 1}, {type(program).__name__}, {name}: {seen[name][-1]:.1f} {program.unit}")
    alone = statistics.median(seen["alone"]) if seen["alone"] else None
    for name, fair, _ in every:
        if seen[name]:
            rate = statistics.median(seen[name])
            share = f"{rate / alone:9.2f}" if alone else f"{'':9}"
            print(f"{type(program).__name__.lower():6} {name:34} {rate:9.1f} {program.unit:8} {share} {fair:6.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=ROOT / "out/demo", help="folder of the demo")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release", help="folder of the programs")
    parser.add_argument("--steps", type=int, default=200, help="steps of training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", choices=["train", "score"], help="measure one program only")
    parser.add_argument("--only", default="", help="measure situations whose name has this word only")
    arguments = parser.parse_args()
    if not (arguments.demo / "bundles/standard").is_dir():
        fail(f"{arguments.demo}/bundles/standard: no such folder; `make demo` writes it")
    print(f"{'':6} {'':34} {'rate':>9} {'':8} {'of alone':>9} {'fair':>6}")
    for program in (Train(arguments), Score(arguments)):
        if arguments.program in (None, type(program).__name__.lower()):
            measure(program, arguments)


if __name__ == "__main__":
    main()
