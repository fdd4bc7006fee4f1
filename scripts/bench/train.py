#!/usr/bin/env python3
"""A training step: the published schedule compared with ours, and both with Hugging Face transformers in PyTorch.

A random model of InternVL2-1B's widths with four layers in each part learns from two pairs of 7 tiles, a prefix of 2000
tokens and responses of 150; the vision encoder is frozen, as published. All ways take turns in one run and the medians
count; the losses must agree, which shows that equal work is compared. The peer computes in bf16 without fp32 masters, so
that it need not round weights.

seconds     forward and backward
pairs/s     pairs per second of it
x plain     the published schedule's seconds, by ours, divided by these
x peer      PyTorch's seconds divided by these
work        seconds divided by those that the multiplications would take at the rate of plain matrix products in this
            run (vision forward once, attention only between tokens that see each other, nothing twice)
GB          peak memory, above weights, gradients and optimizer state
"""

import argparse
import json
import math
import random
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "tests/golden/configs/InternVL2-1B.json"
WAYS = {
    "plain": {"way": "plain", "checkpointing": False},
    "shared": {"way": "shared", "checkpointing": False},
    "shared, checkpointing": {"way": "shared", "checkpointing": True},
    "shared, features cached": {"way": "kept", "checkpointing": False},
}
# Largest difference of two losses: sums in another order, and bf16's 8 bits over eight layers.
TOLERANCE = {"fp32": 2e-4, "bf16": 5e-2}


def fail(message):
    sys.exit(f"bench/train.py: error: {message}")


class Half:
    """A process that answers questions with measurements."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self.read()

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else fail(f"{self.process.args[0]} ended with status {self.process.wait()}")

    def ask(self, question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def bitmap(path, seed, width=1344, height=896):
    """Noise: six tiles and the thumbnail."""
    data = random.Random(seed).randbytes(3 * width * height)
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + len(data), 0, 0, 54, 40, width, height, 1, 24, 0, len(data), 0, 0, 0, 0)
    path.write_bytes(header + data)
    return path


def random_checkpoint(arguments, folder):
    config = json.loads(CONFIG.read_text())
    config["vision_config"]["num_hidden_layers"] = config["llm_config"]["num_hidden_layers"] = arguments.layers
    # A separate output projection would only take memory.
    config["llm_config"]["tie_word_embeddings"] = True
    config["max_dynamic_patch"] = 6
    (folder / "config.json").write_text(json.dumps(config))
    command = [arguments.programs / "seeward-fixture", "checkpoint", "--config", folder / "config.json", "--output",
               folder / "checkpoint", "--score-head", "--dtype", "bf16", "--tokenizer", ROOT / "tests/golden/models/qwen2"]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
        fail("seeward-fixture failed")
    return folder / "checkpoint"


def run_config(arguments, folder, algorithm, dtype):
    keys = {
        "model_name_or_path": folder / "checkpoint", "dataset_path": folder / "pairs.jsonl", "output_dir": folder / "out",
        "algorithm": algorithm, "bf16": dtype == "bf16", "freeze_backbone": True, "threads": arguments.threads,
        "per_device_train_batch_size": 2, "weight_decay": 0.05, "report_to": "none",
    }
    if algorithm == "shortcut_aware":
        keys["bias_model_path"] = folder / "checkpoint"
    path = folder / "config.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value, default=str)}\n" for key, value in keys.items()))
    return path


def operations(config, work, everywhere):
    """Multiplications and additions of a step in which nothing is computed twice; rewards everywhere, or where one is read."""
    vision, text = config["vision_config"], config["llm_config"]
    width, ffn = vision["hidden_size"], vision["intermediate_size"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    layer = (patches + 1) * (4 * width**2 + 2 * width * ffn) + 2 * (patches + 1) ** 2 * width
    hidden, wide = text["hidden_size"], 4 * width
    # Forward, backward to the weights, and backward to the input where that has a gradient.
    projector = patches // 4 * (2 * wide * hidden + 3 * hidden**2)
    tile = vision["num_hidden_layers"] * layer + patches * 3 * vision["patch_size"] ** 2 * width + projector
    keys = hidden // text["num_attention_heads"] * text["num_key_value_heads"]
    attending, rest = hidden**2 + 2 * hidden * keys, hidden**2 + 3 * hidden * text["intermediate_size"]
    layers, tokens = text["num_hidden_layers"], work["tokens"]
    last = tokens if everywhere else work["rewards"]
    decoder = layers * (tokens * attending + work["seen"] * 2 * hidden) + ((layers - 1) * tokens + last) * rest
    return 2 * (work["tiles"] * tile + 3 * decoder)


def better_attention(peer):
    """Measured on one pair, since the slower may take much memory; the first run warms up."""
    trials = {name: peer.ask({"pairs": 1, "attention": name})["seconds"] for name in ["sdpa", "eager", "sdpa"]}
    return min(trials, key=trials.get)


class Cell:
    """One algorithm in one dtype: the measurements, by way."""

    def __init__(self, arguments, folder, algorithm, dtype):
        self.arguments, self.name, self.dtype = arguments, f"{algorithm}, {dtype}", dtype
        images = [bitmap(folder / f"{seed}.bmp", seed) for seed in range(2)]
        config = run_config(arguments, folder, algorithm, dtype)
        self.model = json.loads((folder / "checkpoint/config.json").read_text())
        self.step = [arguments.step, "--config", config, *(part for image in images for part in ("--image", image)),
                     "--prefix", 2000, "--response", 150, "--pixels", folder]
        self.memory = {way: self.memory_of(way) for way in WAYS}
        self.ours = Half(*self.step)
        self.peer = None if arguments.no_peer else self.start_peer(folder)
        self.answers = {way: [] for way in [*WAYS, "PyTorch", "matmul", "update"]}

    def start_peer(self, folder):
        (folder / "work.json").write_text(json.dumps(self.ours.description))
        return Half(sys.executable, ROOT / "scripts/bench/train_peer.py", "--checkpoint", folder / "checkpoint", "--work",
                    folder / "work.json", "--dtype", self.dtype, "--threads", self.arguments.threads)

    def memory_of(self, way):
        """Gigabytes; in a separate process, since freed memory is not returned at once."""
        self.say(f"memory, {way}")
        half = Half(*self.step)
        answer = half.ask({"do": "memory", **WAYS[way]})
        half.close()
        return answer["bytes"] / 1e9

    def measure(self):
        attention = self.peer and better_attention(self.peer)
        # The slower first round hardly moves a median.
        for number in range(1, self.arguments.rounds + 1):
            for way in self.answers:
                self.say(f"round {number} of {self.arguments.rounds}, {way}")
                answer = self.ask(way, attention)
                if answer:
                    self.answers[way].append(answer)
        print(file=sys.stderr)
        self.close()
        self.check_losses()

    def say(self, what):
        start, end = ("\r", "\033[K") if sys.stderr.isatty() else ("", "\n")
        print(f"{start}{self.name}: {what}", end=end, file=sys.stderr, flush=True)

    def ask(self, way, attention):
        if way in WAYS:
            return self.ours.ask({"do": "backward", **WAYS[way]})
        if way != "PyTorch":
            return self.ours.ask({"do": way})
        return self.peer and self.peer.ask({"pairs": 2, "attention": attention})

    def close(self):
        for half in filter(None, [self.ours, self.peer]):
            half.close()

    def check_losses(self):
        losses = {way: answers[0]["loss"] for way, answers in self.answers.items() if answers and "loss" in answers[0]}
        if max(losses.values()) - min(losses.values()) > TOLERANCE[self.dtype]:
            fail(f"{self.name}: the losses differ: {losses}")

    def median(self, way, key="seconds"):
        values = [answer[key] for answer in self.answers[way]]
        return statistics.median(values) if values else math.nan

    def work(self, way):
        schedule = "shared" if way.startswith("shared") else "plain"
        branches = filter(None, self.ours.description.values())
        return sum(operations(self.model, branch[schedule], schedule == "plain") for branch in branches)

    def report(self):
        rate = self.median("matmul", "rate")
        print(f"\n{self.name}: plain matrix products at {rate / 1e9:.0f} GFLOP/s; the optimizer alone: "
              f"{self.median('update'):.2f} s, {self.median('update', 'norm_seconds'):.2f} of them for the gradients' norm")
        print(f"{'':24}{'seconds':>9}{'pairs/s':>9}{'x plain':>9}{'x peer':>9}{'work':>7}{'GB':>7}")
        for way in [*WAYS, "PyTorch"]:
            seconds = self.median(way)
            figures = [(seconds, "9.2f"), (2 / seconds, "9.3f"), (self.median("plain") / seconds, "9.2f"),
                       (self.median("PyTorch") / seconds, "9.2f"), (seconds * rate / self.work(way), "7.2f"),
                       (self.memory.get(way, math.nan), "7.2f")]
            print(f"{way:24}" + "".join(f"{figure:{shape}}" for figure, shape in figures), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=["standard", "shortcut_aware"])
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true", help="without PyTorch")
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="folder for the temporary gigabytes")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    arguments.step = arguments.programs / "examples/step"

    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_train.", dir=arguments.folder) as folder:
        folder = Path(folder)
        random_checkpoint(arguments, folder)
        for algorithm in arguments.algorithms:
            for dtype in arguments.dtypes:
                cell = Cell(arguments, folder, algorithm, dtype)
                cell.measure()
                cell.report()


if __name__ == "__main__":
    main()
