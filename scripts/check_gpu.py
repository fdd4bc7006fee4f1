#!/usr/bin/env python3
"""Checks that an NVIDIA GPU computes the same as the CPU: training, export and scoring, on both, by the built programs.

On small models: six steps of every algorithm and precision, whose losses must agree; every golden model's rewards in
fp32, fp16 and bf16; the probes of a model that was trained on the GPU, on both; rewards in small and in large batches;
and refusals of impossible options. With --layers also a few steps at InternVL2-1B's widths, for their rate and memory.
A program that fails, or a NaN, counts as an infinite difference.

Needs `make setup DEVICE=cuda` and `make build`. Exit status 1 if anything differs by more than its tolerance.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts/bench"))

import train as bench  # noqa: E402

GOLDEN = ROOT / "tests/golden"
HEADLESS = "internlm2_plain"
MODELS = sorted(path.name for path in (GOLDEN / "models").iterdir() if path.name != HEADLESS)
# For losses, and rewards of about 1: sums in another order; 16-bit types round every product's operands.
# On an H100 they differed by at most 1e-5, 1e-2 and 7e-2.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-1}
RUNS = {
    "standard, fp32": ("fp32", {"algorithm": "standard"}),
    "standard, bf16": ("bf16", {"algorithm": "standard", "bf16": True}),
    "standard, everything trains": ("fp32", {"algorithm": "standard", "freeze_backbone": False}),
    "shortcut_aware, fp32": ("fp32", {"algorithm": "shortcut_aware"}),
    "shortcut_aware, bf16": ("bf16", {"algorithm": "shortcut_aware", "bf16": True}),
    "shortcut_aware, checkpointing": ("fp32", {"algorithm": "shortcut_aware", "grad_checkpoint": True}),
    "shortcut_aware, not shared": ("fp32", {"algorithm": "shortcut_aware", "share_computation": False}),
    "shortcut_aware, LoRA": ("fp32", {"algorithm": "shortcut_aware", "use_llm_lora": True, "lora_r": 4, "lora_dropout": 0.0}),
    "sft, fp32": ("fp32", {"algorithm": "sft"}),
}
STEPS = 6


class Failed(Exception):
    """A program ended with an unexpected status or output."""


class Check:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.bad = arguments, folder, 0
        self.devices = ["cpu", arguments.device]
        self.numbers = itertools.count()
        rows = [json.loads(line) for line in (GOLDEN / "train/pairwise.jsonl").open()]
        rows = [{"prompt": row["prompt"], "img_path": Path(row["img_path"]).name,
                 "responses": [row["chosen"], row["rejected"]]} for row in rows]
        self.rows = folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def table(self, title, works):
        """A line for each work: its largest difference, the tolerance, and its messages. Programs spend most of their time
        starting, so several run at once."""
        print(f"\n{title}")
        with ThreadPoolExecutor(self.arguments.jobs) as pool:
            for name, outcome in zip(works, pool.map(attempt, works.values())):
                difference, tolerance, said = outcome
                bad = not difference <= tolerance  # NaN is bad
                self.bad += bad
                print(f"{name:48}{difference:10.1e}  of {tolerance:.0e}{'  TOO FAR' if bad else ''}", flush=True)
                for line in said.strip().splitlines():
                    print("    " + line)

    def program(self, name, *arguments, status=0):
        command = [str(part) for part in (self.arguments.programs / name, *arguments)]
        # Threads of several programs that wait for the same cores take minutes instead of milliseconds.
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode != status:
            raise Failed(f"status {done.returncode}: {done.stderr.strip()[-600:]}")
        return done.stdout + done.stderr

    def train(self, device, keys):
        """The folder of a run, and its steps' metrics."""
        output = self.folder / f"run-{next(self.numbers)}"
        keys = {"dataset_path": GOLDEN / "train/pairwise.jsonl", "output_dir": output, "max_steps": STEPS,
                "per_device_train_batch_size": 4, "shuffle": False, "learning_rate": 1e-3, "logging_steps": 1,
                "freeze_backbone": True, "report_to": "none", "model_name_or_path": GOLDEN / "models/qwen2", **keys}
        if keys["algorithm"] == "shortcut_aware":
            keys["bias_model_path"] = keys["model_name_or_path"]
        config = output.with_suffix(".yaml")
        config.write_text("".join(f"{key}: {json.dumps(value, default=str)}\n" for key, value in keys.items()))
        self.program("seeward-train", "--config", config, "--device", device)
        return output, [json.loads(line) for line in (output / "metrics.jsonl").open()]

    def export(self, checkpoint, *flags):
        output = self.folder / f"bundle-{next(self.numbers)}"
        self.program("seeward-export", "--checkpoint", checkpoint, "--output", output, *flags)
        return output

    def score(self, bundle, device, *flags):
        """Rewards of the rows, and the messages."""
        output = self.folder / f"scores-{next(self.numbers)}.jsonl"
        said = self.program("seeward-score", "--model", bundle, "--input", self.rows, "--image-root", GOLDEN / "images",
                            "--output", output, "--device", device, *flags)
        return [json.loads(line)["score"] for line in output.open()], said

    def training(self):
        def work(name):
            dtype, keys = RUNS[name]
            losses = [[step["loss"] for step in self.train(device, keys)[1]] for device in self.devices]
            return largest_difference(*losses), TOLERANCE[dtype] / 2, ""
        self.table(f"losses of {STEPS} steps, largest difference between CPU and GPU", {name: partial(work, name) for name in RUNS})

    def rewards(self):
        target = target_of(self.arguments.device)

        def work(model, tolerance, *flags):
            checkpoint = GOLDEN / "models" / model
            expected, _ = self.score(self.export(checkpoint), "cpu")
            bundle = self.export(checkpoint, *flags)
            got, said = self.score(bundle, self.arguments.device)
            fallback = "\n".join(line for line in said.splitlines() if "nodes on" in line)
            return largest_difference(expected, got), tolerance * max(1, *map(abs, expected)), fallback
        works = {f"{model}, {kind}, {dtype}": partial(work, model, tolerance, "--dtype", dtype, "--target", kind)
                 for model in MODELS for kind in ["portable", target] for dtype, tolerance in TOLERANCE.items()}
        self.table("rewards, largest difference between the CPU in fp32 and the GPU", works)

    def batches(self):
        def work(dtype):
            bundle = self.export(GOLDEN / "models/qwen2", "--dtype", dtype)
            few, many = (self.score(bundle, self.arguments.device, "--batch-tokens", tokens)[0] for tokens in (1, 6144))
            return largest_difference(few, many), TOLERANCE[dtype], ""
        works = {dtype: partial(work, dtype) for dtype in TOLERANCE}
        self.table("rewards on the GPU, largest difference between small and large batches", works)

    def probes(self):
        """A checkpoint keeps rewards that were computed on the device that trained it."""
        def work(trained, checked):
            run, _ = self.train(trained, {"algorithm": "shortcut_aware"})
            bundle = self.export(run / "checkpoint-last")
            return 0, 0, self.program("seeward-score", "--model", bundle, "--check", "--device", checked)
        works = {f"trained on {trained}, checked on {checked}": partial(work, trained, checked)
                 for trained in self.devices for checked in self.devices}
        self.table("probes of a trained model, recomputed", works)

    def refusals(self):
        bundle = self.export(GOLDEN / "models/qwen2")
        score = ["--model", bundle, "--input", self.rows, "--image-root", GOLDEN / "images", "--output", self.folder / "none"]
        refused = lambda *flags: (0, 0, self.program("seeward-score", *score, *flags, status=2)[-600:])
        self.table("refusals", {
            "a missing GPU": partial(refused, "--device", "cuda:63"),
            "too little memory": partial(refused, "--device", self.arguments.device, "--gpu-memory-limit", 100000)})

    def training_at_size(self):
        """Steps of whole training runs; the first few warm up."""
        folder, layers = self.folder, self.arguments.layers
        checkpoint = bench.random_checkpoint(self.arguments, folder)
        words = lambda seed: " ".join(random.Random(seed).choices(["yes", "no", "is", "red"], k=100))
        rows = [{"prompt": "is there a red shape?", "img_path": str(bench.bitmap(folder / f"{number}.bmp", number)),
                 "chosen": words(2 * number), "rejected": words(2 * number + 1)} for number in range(64)]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"\ntraining of {layers} + {layers} layers of InternVL2-1B's widths in bf16, batches of 8 pairs of 7 tiles")
        for algorithm, more in [("standard", {}), ("shortcut_aware", {}), ("shortcut_aware", {"grad_checkpoint": True})]:
            keys = {"algorithm": algorithm, "model_name_or_path": checkpoint, "dataset_path": folder / "pairs.jsonl", "bf16": True,
                    "max_steps": 12, "per_device_train_batch_size": 8, "learning_rate": 1e-5, "save_only_model": True, **more}
            steps = self.train(self.arguments.device, keys)[1]
            rate = statistics.median(step["pairs_per_second"] for step in steps[4:])
            print(f"{algorithm + ''.join(', ' + key for key in more):36}{rate:8.1f} pairs/s"
                  f"{steps[-1]['peak_memory_bytes'] / 1e9:8.1f} GB", flush=True)


def attempt(work):
    try:
        return work()
    except Failed as failed:
        return math.inf, 0, str(failed)


def target_of(device):
    """The export target of bundles for the device."""
    return device.split(":")[0]


def largest_difference(expected, got):
    if len(expected) != len(got):
        raise Failed(f"expected {len(expected)} values, got {len(got)}")
    differences = [abs(a - b) for a, b in zip(expected, got)]
    return math.nan if any(d != d for d in differences) else max(differences)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--layers", type=int, default=0, help="layers of each part, for rate and memory at real widths [0: skip]")
    parser.add_argument("--jobs", type=int, default=4, help="programs that run at once")
    parser.add_argument("--only", default="training,rewards,batches,probes,refusals")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="check_gpu.") as folder:
        check = Check(arguments, Path(folder))
        for part in arguments.only.split(",") + ["training_at_size"] * bool(arguments.layers):
            getattr(check, part)()
    sys.exit(int(check.bad > 0))


if __name__ == "__main__":
    main()
