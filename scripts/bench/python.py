#!/usr/bin/env python3
"""Time and CPU time of scoring a file by seeward-score and from Python, by the installed wheel.

    make build wheel && python3 -m venv v && v/bin/pip install dist/seeward-*.whl pillow
    scripts/bench/python.py --python v/bin/python

Every way scores the same rows in a separate process, in rounds one after the other; medians are printed with their
ratios to the program's. Starting and loading are part of each.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"

BATCH = """
import json, sys
import seeward
bundle, rows, form = sys.argv[1:]
def images(path):
    if form == "paths":
        return path
    if form == "bytes":
        return open(path, "rb").read()
    from PIL import Image
    return Image.open(path)
def requests():
    for line in open(rows):
        row = json.loads(line)
        yield {"prompt": row["prompt"], "responses": row["responses"], "images": images(row["img_path"])}
scored = seeward.RewardModel(bundle).score_batch(requests())
assert not any(isinstance(scores, Exception) for scores in scored)
"""
IMPORT = "import time; start = time.perf_counter(); import seeward; print(time.perf_counter() - start)"


def write_rows(path, count):
    images = [str(image) for image in sorted((GOLDEN / "images").glob("train_*.png"))]
    with open(path, "w") as file:
        for number in range(count):
            image = images[number % len(images)]
            row = {"prompt": f"what is in image {number}?", "img_path": image, "responses": ["A circle.", "I am not sure."]}
            file.write(json.dumps(row) + "\n")


def measured(command, environment):
    """Seconds, and seconds of the CPU."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ways(arguments, rows, folder):
    """The command of each way."""
    score = ["--model", arguments.bundle, "--input", rows, "--allow-outside-root", "--no-resume", "--output", folder / "scores.jsonl"]
    python = [arguments.python, "-c", BATCH, arguments.bundle, rows]
    return {
        "program": [arguments.program, *score],
        "console command": [arguments.python, "-m", "seeward", "score", *score],
        **{f"score_batch of {form}": [*python, form] for form in ("paths", "bytes", "PIL images")},
    }


def main():
    parser = argparse.ArgumentParser(description="Compares scoring from Python with the program.")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with seeward and pillow")
    parser.add_argument("--program", default=ROOT / "target/release/seeward-score", type=Path)
    parser.add_argument("--bundle", default=GOLDEN / "bundles" / "qwen2", type=Path)
    parser.add_argument("--rows", default=1500, type=int)
    parser.add_argument("--rounds", default=5, type=int)
    arguments = parser.parse_args()
    library = {**os.environ, "ORT_DYLIB_PATH": str(ROOT / "third_party/onnxruntime/libonnxruntime.so")}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_rows(rows, arguments.rows)
        commands, times = ways(arguments, rows, Path(folder)), {}
        for _ in range(arguments.rounds):
            for way, command in commands.items():
                times.setdefault(way, []).append(measured(command, library))
    first = [statistics.median(column) for column in zip(*times["program"])]
    print(f"{'':24} {'wall, s':>8} {'ratio':>6} {'CPU, s':>8} {'ratio':>6}")
    for way, pairs in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs))
        print(f"{way:24} {wall:8.2f} {wall / first[0]:6.2f} {cpu:8.2f} {cpu / first[1]:6.2f}")
    imports = [float(subprocess.check_output([arguments.python, "-c", IMPORT])) for _ in range(arguments.rounds)]
    print(f"import: {1000 * statistics.median(imports):.0f} ms")


if __name__ == "__main__":
    main()
