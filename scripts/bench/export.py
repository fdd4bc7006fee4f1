#!/usr/bin/env python3
"""Export compared with a plain copy: seconds until the bytes are on disk, and memory, for every precision.

A random checkpoint of a real configuration is exported and the bundle copied, in alternation, --rounds times. The best
time of each counts, since the machine may be shared. Exit status 1 if the export takes more than twice the copy's time,
or more than 1 GB of memory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/release"
MOST_TIME, MOST_BYTES = 2.0, 1e9


def run(*command):
    """Seconds, seconds of CPU time, and peak memory of a command."""
    start = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"bench/export.py: error: failed: {' '.join(map(str, command))}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def copy(bundle, to):
    return run("sh", "-c", 'cp -r --reflink=never "$0" "$1" && sync "$1"/*', bundle, to)


def measure(checkpoint, folder, dtype, rounds):
    bundle, twin = folder / dtype, folder / "copy"
    exports, copies = [], []
    for _ in range(rounds):
        program = PROGRAMS / "seeward-export"
        exports.append(run(program, "--checkpoint", checkpoint, "--output", bundle, "--dtype", dtype))
        copies.append(copy(bundle, twin))
        shutil.rmtree(twin)
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    shutil.rmtree(bundle)
    export, copied = min(exports), min(copies)
    return size, export, copied, max(run[2] for run in exports)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "tests/golden/configs/InternVL2-1B.json")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "tests/golden/models/qwen2")
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="folder for the temporary gigabytes")
    parser.add_argument("--dtypes", nargs="+", default=["fp16", "bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_export.", dir=arguments.folder) as folder:
        folder = Path(folder)
        checkpoint = folder / "checkpoint"
        run(PROGRAMS / "seeward-fixture", "checkpoint", "--config", arguments.config, "--output", checkpoint,
            "--score-head", "--dtype", "bf16", "--tokenizer", arguments.tokenizer)
        print(f"{arguments.config.stem}, bf16 checkpoint")
        print(f"{'':6}{'GB':>7}{'export s':>10}{'copy s':>8}{'ratio':>7}{'CPU s':>8}{'MB':>6}")
        failed = False
        for dtype in arguments.dtypes:
            size, export, copied, memory = measure(checkpoint, folder, dtype, arguments.rounds)
            ratio = export[0] / copied[0]
            print(f"{dtype:6}{size / 1e9:7.2f}{export[0]:10.1f}{copied[0]:8.1f}{ratio:7.2f}{export[1]:8.1f}{memory / 1e6:6.0f}")
            failed |= ratio > MOST_TIME or memory > MOST_BYTES
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
