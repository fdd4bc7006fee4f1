#!/usr/bin/env python3
"""Figures of one NVIDIA GPU within minutes: the most valuable first, each written as soon as it is known.

In this order:

training   pairs/s in steps whose rows have new lengths and in steps whose lengths were seen before, of both algorithms, with
           cuDNN's attention as Seeward leaves it (off) and as LibTorch's environment variable forces it off
scoring    seconds of a row of 8 responses, whose length is a multiple of 16 tokens and one more (both are padded to a
           multiple of 64), and of a row of 64
attention  ONNX Runtime's kernel for every attention node of a row
parity     rewards of every golden model and family, largest difference from the CPU in fp32
tensorrt   a row of 8 responses by TensorRT, whose libraries are in the folders of --tensorrt

Measurements are kept in --results, one line each; a rerun resumes from there. A part that would not end in time is skipped
and named. --pack FILE writes an archive of what a machine without package registries needs except the engines, to be
unpacked into an empty folder: the programs without symbols, scripts and golden files; and it lists the engines' libraries.

Needs `make setup DEVICE=cuda` and `make build`, and nothing of Python but its standard library. Any --device works, so that
the script itself can be tried on the CPU.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts/bench"))

import check_gpu  # noqa: E402
import runtime  # noqa: E402
import train as training_bench  # noqa: E402

# Files of tests/golden that the parts read.
GOLDEN = ["configs", "families", "images", "models", "train/pairwise.jsonl"]
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
        # One for all parts, whose files it numbers.
        self.check = check_gpu.Check(arguments, folder)
        self.random, self.written = random.Random(0), None
        self.bench, self.bundle_of_device = None, None

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
        image = training_bench.bitmap(self.folder / "image.bmp", 0)
        words = lambda seed: " ".join(random.Random(seed).choices(["yes", "no", "is", "red"], k=60 + seed % 80))
        rows = [{"prompt": "is there a red shape?", "img_path": str(image), "chosen": words(7 * index),
                 "rejected": words(7 * index + 3)} for index in range(BATCH * BATCHES)]
        (self.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        keys = {"algorithm": algorithm, "model_name_or_path": self.checkpoint(), "dataset_path": self.folder / "pairs.jsonl",
                "bf16": True, "max_steps": 2 * BATCHES, "per_device_train_batch_size": BATCH, "learning_rate": 1e-5,
                "save_only_model": True}
        with environment(variables):
            _, steps = self.check.train(self.arguments.device, keys)
        rate = lambda some: round(statistics.median(step["pairs_per_second"] for step in some), 2)
        return {"pairs/s with new lengths": rate(steps[2:BATCHES]), "with seen lengths": rate(steps[BATCHES:]),
                "GB": round(steps[-1]["peak_memory_bytes"] / 1e9, 1)}

    def checkpoint(self):
        """Random weights of InternVL2-1B's widths, written once."""
        if self.written is None:
            self.written = training_bench.random_checkpoint(self.arguments, self.folder)
        return self.written

    def bundle(self, target):
        folder = self.folder / target
        runtime.run(self.arguments.programs / "seeward-export", "--checkpoint", self.checkpoint(), "--output", folder,
                    "--target", target, "--dtype", "bf16")
        return folder

    def scorer(self):
        """The bundle in bf16 on the device."""
        if self.bench is None:
            self.bench = runtime.Scorer(self.arguments, self.folder, None)
            self.bundle_of_device = self.bundle(runtime.target_of(self.arguments.device))
        return self.bench

    def row(self, responses, question_tokens=runtime.QUESTION):
        """A row with its own image of 7 tiles. Qwen2's tokenizer makes a token of every digit."""
        digits = lambda tokens: "".join(self.random.choices("0123456789", k=tokens))
        number = self.random.randrange(1 << 30)
        training_bench.bitmap(self.folder / f"{number}.bmp", number)
        return {"prompt": digits(question_tokens), "img_path": f"{number}.bmp",
                "responses": [digits(runtime.RESPONSE) for _ in range(responses)]}

    def scoring(self, responses, more):
        scorer = self.scorer()
        rows = [self.row(responses, runtime.QUESTION + more) for _ in range(4)]
        measured = scorer.warm(self.bundle_of_device, rows)
        return {"seconds": round(measured["seconds"], 4), "in the engine": round(measured["engine"], 4)}

    def attention(self):
        """The kernels that ONNX Runtime names in its log, with the number of times."""
        self.scorer()
        (self.folder / "row.jsonl").write_text(json.dumps(self.row(8)) + "\n")
        command = [self.arguments.programs / "seeward-score", "--model", self.bundle_of_device, "--input",
                   self.folder / "row.jsonl", "--output", self.folder / "row.scores", "--no-resume", "--device",
                   self.arguments.device]
        with environment({"SEEWARD_ENGINE_LOG": "verbose", "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO": "1"}):
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise check_gpu.Failed(done.stderr[-600:])
        kernels = [found.strip() for found in KERNEL.findall(done.stdout + done.stderr)]
        return {kernel: kernels.count(kernel) for kernel in sorted(set(kernels))} or {"named": "none"}

    def parity(self, checkpoint):
        check, rows = self.check, self.check.rows
        config = json.loads((checkpoint / "config.json").read_text())
        if "vision_config" not in config:
            texts = [{**json.loads(line), "img_path": None} for line in rows.open()]
            check.rows = self.folder / "texts.jsonl"
            check.rows.write_text("".join(json.dumps(row) + "\n" for row in texts))
        try:
            return self.differences(check, checkpoint)
        finally:
            check.rows = rows

    def differences(self, check, checkpoint):
        """The largest one in each precision of the device."""
        template, target = template_of(checkpoint), runtime.target_of(self.arguments.device)
        expected, _ = check.score(check.export(checkpoint, *template), "cpu")
        differences = {}
        for dtype in sorted(check_gpu.TOLERANCE.keys() & runtime.OURS[target].keys()):
            bundle = check.export(checkpoint, *template, "--dtype", dtype, "--target", target)
            got, _ = check.score(bundle, self.arguments.device)
            differences[dtype] = f"{check_gpu.largest_difference(expected, got):.1e}"
        return differences

    def tensorrt(self):
        arguments = argparse.Namespace(**{**vars(self.arguments), "device": "tensorrt"})
        scorer = runtime.Scorer(arguments, self.folder, None)
        bundle, rows = self.bundle("tensorrt"), [self.row(8) for _ in range(4)]
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


def template_of(checkpoint):
    """The flag with the template of a family whose folder has none."""
    golden = checkpoint.parent / "golden.json"
    template = json.loads(golden.read_text()).get("template") if golden.exists() else None
    return ["--template", template] if template else []


def pack(arguments):
    """Writes the archive, and prints what the programs link to."""
    if not shutil.which("strip"):
        sys.exit("bench/gpu.py: error: strip is missing; on Debian and Ubuntu: sudo apt install binutils")
    mib = lambda path: path.stat().st_size / 2**20
    with tempfile.TemporaryDirectory() as folder, tarfile.open(arguments.pack, "w:gz") as archive:
        for program in PROGRAMS:
            stripped = Path(folder) / program
            subprocess.run(["strip", "-o", stripped, arguments.programs / program], check=True)
            archive.add(stripped, f"target/release/{program}")
        for path in ["scripts", *(f"tests/golden/{name}" for name in GOLDEN)]:
            archive.add(ROOT / path, path, filter=lambda member: None if "__pycache__" in member.name else member)
        unpacked = sum(member.size for member in archive.getmembers()) / 2**20
    print(f"{mib(arguments.pack):8.1f} MiB  {arguments.pack} ({unpacked:.1f} MiB unpacked)")
    print("engines, from the machine itself or as far as the network allows (LD_LIBRARY_PATH, ORT_DYLIB_PATH):")
    linked = subprocess.run(["ldd", arguments.programs / "seeward-train"], capture_output=True, text=True).stdout
    libraries = sorted({Path(path).resolve() for path in re.findall(r"=> (\S+third_party\S+)", linked)})
    for path in libraries + sorted((ROOT / "third_party/cuda/onnxruntime/capi").glob("*.so*")):
        print(f"{mib(path):8.1f} MiB  {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=9, help="time for all parts")
    parser.add_argument("--layers", type=int, default=24, help="layers of each part of the model")
    parser.add_argument("--tensorrt", nargs="+", default=[], help="folders of TensorRT's libraries")
    parser.add_argument("--pack", type=Path, help="only write an archive of the files that the run needs")
    parser.add_argument("--results", type=Path, default=ROOT / "out/bench_gpu.jsonl")
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="folder for the temporary gigabytes")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    if arguments.pack:
        return pack(arguments)
    arguments.threads = os.cpu_count()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_gpu.", dir=arguments.folder) as folder:
        Figures(arguments, Path(folder)).measure()


if __name__ == "__main__":
    main()
