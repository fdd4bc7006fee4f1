#!/usr/bin/env python3
"""Figures of one NVIDIA GPU within minutes: the most valuable first, each written as soon as it is known.

In this order:

training   pairs/s in steps whose rows have new lengths and in steps whose lengths were seen before, of both algorithms, with
           cuDNN's attention as Seeward leaves it (off) and as LibTorch's environment variable forces it off
scoring    seconds of a row of 8 responses, whose length is a multiple of 16 tokens and one more, and of a row of 64
attention  ONNX Runtime's kernel for every attention node of a row
parity     rewards of every golden model and family, largest difference from the CPU in fp32
tensorrt   a row of 8 responses by TensorRT, whose libraries are in the folders of --tensorrt

Measurements are kept in --results, one line each; a rerun resumes from there. A part that would not end in time is skipped
and named. --travels lists the files that a machine without package registries needs, with their sizes.

Needs `make setup DEVICE=cuda` and `make build`. Any --device works, so that the script itself can be tried on the CPU.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts/bench"))

import check_gpu  # noqa: E402
import runtime  # noqa: E402
import train as training_bench  # noqa: E402

PROGRAMS = ["seeward-fixture", "seeward-export", "seeward-score", "seeward-train"]
WITHOUT_CUDNN = {"TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"}
BATCH, BATCHES = 8, 6
KERNEL = re.compile(r"(?:ONNX Attention: using|SdpaKernel=)\s*([\w -]+)")


def say(message):
    print("bench/gpu.py: " + message, file=sys.stderr, flush=True)


class Part:
    """One measurement: its name, the seconds that it takes on an H100 at most, and the work."""

    def __init__(self, name, seconds, work):
        self.name, self.seconds, self.work = name, seconds, work


class Figures:
    """The measurements of one GPU."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.results = runtime.Results(arguments.results)
        self.checkpoints = {}
        self.bench = None

    def parts(self):
        for algorithm in ("standard", "shortcut_aware"):
            for name, variables in {"": {}, ", variable set": WITHOUT_CUDNN}.items():
                yield Part(f"training, {algorithm}{name}", 60, lambda a=algorithm, v=variables: self.training(a, v))
        yield Part("scoring, 8 responses", 60, lambda: self.scoring(8, 0))
        yield Part("scoring, 8 responses, one token more", 20, lambda: self.scoring(8, 1))
        yield Part("attention", 20, self.attention)
        yield Part("scoring, 64 responses", 30, lambda: self.scoring(64, 0))
        for family, checkpoint in golden_checkpoints():
            yield Part(f"parity, {family}", 15, lambda c=checkpoint: self.parity(c))
        if self.arguments.tensorrt:
            yield Part("tensorrt, 8 responses", 120, self.tensorrt)

    def measure(self):
        ends = time.monotonic() + 60 * self.arguments.minutes
        for part in self.parts():
            if self.results.of(part=part.name):
                continue
            if time.monotonic() + part.seconds > ends:
                say(f"{part.name}: skipped, {part.seconds} s would not end in time")
                continue
            start = time.monotonic()
            try:
                figures = part.work()
            except (check_gpu.Failed, SystemExit) as failed:
                # A later run tries again.
                say(f"{part.name}: {failed}")
                continue
            self.results.add(part=part.name, **figures)
            print(f"{part.name:48}" + ", ".join(f"{name} {value}" for name, value in figures.items())
                  + f"   [{time.monotonic() - start:.0f} s]", flush=True)

    def training(self, algorithm, variables):
        """Two passes over the same batches: in the first every batch has new lengths. All pairs show one image, whose
        features are cached after the first step, so that only lengths differ between the passes."""
        checkpoint = self.checkpoint("training", lambda folder: training_bench.random_checkpoint(self.arguments, folder))
        image = training_bench.bitmap(self.folder / "image.bmp", 0)
        words = lambda seed: " ".join(random.Random(seed).choices(["yes", "no", "is", "red"], k=60 + seed % 80))
        rows = [{"prompt": "is there a red shape?", "img_path": str(image), "chosen": words(7 * index),
                 "rejected": words(7 * index + 3)} for index in range(BATCH * BATCHES)]
        (self.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        keys = {"algorithm": algorithm, "model_name_or_path": checkpoint, "dataset_path": self.folder / "pairs.jsonl",
                "bf16": True, "max_steps": 2 * BATCHES, "per_device_train_batch_size": BATCH, "learning_rate": 1e-5,
                "save_only_model": True}
        check = check_gpu.Check(self.arguments, self.folder)
        with environment(variables):
            _, steps = check.train(self.arguments.device, keys)
        rate = lambda some: round(statistics.median(step["pairs_per_second"] for step in some), 2)
        return {"pairs/s with new lengths": rate(steps[2:BATCHES]), "with seen lengths": rate(steps[BATCHES:]),
                "GB": round(steps[-1]["peak_memory_bytes"] / 1e9, 1)}

    def checkpoint(self, name, write):
        """The checkpoint that `write` puts into its own folder, once."""
        if name not in self.checkpoints:
            folder = self.folder / name
            folder.mkdir()
            self.checkpoints[name] = write(folder)
        return self.checkpoints[name]

    def scorer(self):
        """The bundle in bf16, and material for rows."""
        if self.bench is None:
            folder, target = self.folder / "scoring", runtime.target_of(self.arguments.device)
            folder.mkdir()
            checkpoint = runtime.random_checkpoint(self.arguments, self.arguments.layers, folder)
            runtime.run(self.arguments.programs / "seeward-export", "--checkpoint", checkpoint, "--output", folder / "bf16",
                        "--target", target, "--dtype", "bf16")
            self.bench = runtime.Scorer(self.arguments, folder, runtime.Material(checkpoint, folder))
        return self.bench

    def scoring(self, responses, more):
        scorer = self.scorer()
        rows = [scorer.material.row(responses, f"{responses}-{more}-{index}", runtime.QUESTION + more)[0] for index in range(4)]
        measured = scorer.warm("bf16", rows)
        return {"seconds": round(measured["seconds"], 4), "in the engine": round(measured["engine"], 4)}

    def attention(self):
        """The kernels that ONNX Runtime names in its log, with the number of times."""
        scorer = self.scorer()
        row, _ = scorer.material.row(8, "attention")
        (self.folder / "row.jsonl").write_text(json.dumps(row) + "\n")
        command = [self.arguments.programs / "seeward-score", "--model", scorer.folder / "bf16", "--input",
                   self.folder / "row.jsonl", "--image-root", scorer.folder, "--output", self.folder / "row.scores",
                   "--no-resume", "--device", self.arguments.device]
        with environment({"SEEWARD_ENGINE_LOG": "verbose", "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO": "1"}):
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise check_gpu.Failed(done.stderr[-600:])
        kernels = [found.strip() for found in KERNEL.findall(done.stdout + done.stderr)]
        return {kernel: kernels.count(kernel) for kernel in sorted(set(kernels))} or {"named": "none"}

    def parity(self, checkpoint):
        check = check_gpu.Check(self.arguments, self.folder)
        config = json.loads((checkpoint / "config.json").read_text())
        if "vision_config" not in config:
            rows = [json.loads(line) for line in check.rows.open()]
            check.rows.write_text("".join(json.dumps({**row, "img_path": None}) + "\n" for row in rows))
        expected, _ = check.score(check.export(checkpoint), "cpu")
        differences = {}
        for dtype in check_gpu.TOLERANCE:
            bundle = check.export(checkpoint, "--dtype", dtype, "--target", runtime.target_of(self.arguments.device))
            got, _ = check.score(bundle, self.arguments.device)
            differences[dtype] = f"{check_gpu.largest_difference(expected, got):.1e}"
        return differences

    def tensorrt(self):
        scorer = self.scorer()
        bundle = self.folder / "tensorrt"
        runtime.run(self.arguments.programs / "seeward-export", "--checkpoint", scorer.material.checkpoint, "--output", bundle,
                    "--target", "tensorrt", "--dtype", "bf16")
        scorer.arguments = argparse.Namespace(**{**vars(self.arguments), "device": "tensorrt"})
        rows = [scorer.material.row(8, f"tensorrt-{index}")[0] for index in range(4)]
        with environment({"LD_LIBRARY_PATH": ":".join([*self.arguments.tensorrt, os.environ.get("LD_LIBRARY_PATH", "")])}):
            measured = scorer.warm(bundle, rows)
        return {"seconds": round(measured["seconds"], 4)}


class environment:
    """Environment variables for a while."""

    def __init__(self, variables):
        self.variables = variables

    def __enter__(self):
        self.before = dict(os.environ)
        os.environ.update(self.variables)

    def __exit__(self, *_):
        os.environ.clear()
        os.environ.update(self.before)


def golden_checkpoints():
    """Names and folders of all golden models with a score head."""
    golden = ROOT / "tests/golden"
    for name in check_gpu.MODELS:
        yield name, golden / "models" / name
    for folder in sorted((golden / "families").glob("*/model")):
        yield f"family {folder.parent.name}", folder


def travels(arguments):
    """Prints what a machine without registries needs, and what the programs link to."""
    size = lambda path: sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    needed = [arguments.programs / program for program in PROGRAMS] + [ROOT / "scripts", ROOT / "tests/golden"]
    for path in needed:
        print(f"{size(path) / 2**20:8.1f} MiB  {path.relative_to(ROOT)}")
    print(f"{sum(map(size, needed)) / 2**20:8.1f} MiB  together")
    print("from the machine itself, or as wide as the network allows (LD_LIBRARY_PATH, ORT_DYLIB_PATH):")
    linked = subprocess.run(["ldd", arguments.programs / "seeward-train"], capture_output=True, text=True).stdout
    libraries = sorted({Path(path).resolve() for path in re.findall(r"=> (\S+third_party\S+)", linked)})
    libraries += sorted((ROOT / "third_party/cuda/onnxruntime/capi").glob("*.so*"))
    for path in libraries:
        print(f"{size(path) / 2**20:8.1f} MiB  {path.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=9, help="time for all parts")
    parser.add_argument("--layers", type=int, default=24, help="layers of each part of the model")
    parser.add_argument("--tensorrt", nargs="+", default=[], help="folders of TensorRT's libraries")
    parser.add_argument("--travels", action="store_true", help="only list the files that the run needs")
    parser.add_argument("--results", type=Path, default=ROOT / "out/bench_gpu.jsonl")
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="folder for the temporary gigabytes")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    if arguments.travels:
        return travels(arguments)
    arguments.config, arguments.tokenizer = ROOT / "tests/golden/configs/InternVL2-1B.json", ROOT / "tests/golden/models/qwen2"
    arguments.threads = os.cpu_count()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_gpu.", dir=arguments.folder) as folder:
        Figures(arguments, Path(folder)).measure()


if __name__ == "__main__":
    main()
