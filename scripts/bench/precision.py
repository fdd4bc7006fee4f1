#!/usr/bin/env python3
"""Cost and gain of quantizing: agreement with fp32, size and speed of a checkpoint's bundle in every precision.

A checkpoint (of random weights, of InternVL2-1B's widths with two layers in each part, unless --checkpoint names one) is
exported for the CPU in every precision, and the rows of --input are scored: whole, and with the white image, which is
encoded once, so that the time of the two parts can be separated. The precisions take turns and the best time of each
counts, since the machine may be shared.

pairs       pairs of responses in the same order as in fp32: of one row, and of all rows
clear       the same for pairs whose margin in fp32 is above the 10th percentile
rank        Spearman's rank correlation of all rewards
error       root mean square of the difference to fp32, as a share of the deviation of fp32's rewards
vision ms   milliseconds in the engine per tile of the vision graph
reward ms   the same per thousand tokens of the reward graph
GFLOP/s     rate of each part's linear layers over the whole time of the part

--compare-bf16 also compares the precisions' errors with that of PyTorch in bf16 (scripts/setup.py --peer) on the same
rows, each with its own image, question and response.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import runtime

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = {"fp32": [], "bf16": ["--dtype", "bf16"], "int8": ["--quantize", "int8"]}


def run(program, *arguments):
    done = subprocess.run([str(part) for part in (program, *arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench/precision.py: error: {program} failed: {done.stderr.strip()}")


def random_checkpoint(arguments, folder):
    config = json.loads(arguments.config.read_text())
    config["vision_config"]["num_hidden_layers"] = config["llm_config"]["num_hidden_layers"] = arguments.layers
    (folder / "config.json").write_text(json.dumps(config))
    run(arguments.programs / "seeward-fixture", "checkpoint", "--config", folder / "config.json", "--output",
        folder / "checkpoint", "--score-head", "--dtype", "bf16", "--tokenizer", arguments.tokenizer)
    return folder / "checkpoint"


class Bundle:
    """A precision's bundle and its measurements: rewards by row, and the best time of each way of scoring."""

    def __init__(self, arguments, checkpoint, folder, precision):
        self.arguments, self.folder, self.precision = arguments, folder / precision, precision
        run(arguments.programs / "seeward-export", "--checkpoint", checkpoint, "--output", self.folder, "--target", "cpu",
            *PRECISIONS[precision])
        self.bytes = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        self.seconds, self.stats, self.rewards = {}, {}, None

    def score(self, rows, *mode):
        output, stats = self.folder.with_suffix(".jsonl"), self.folder.with_suffix(".json")
        run(self.arguments.programs / "seeward-score", "--model", self.folder, "--input", rows, "--output", output,
            "--image-root", self.arguments.image_root, "--no-resume", "--stats", stats, "--threads", self.arguments.threads, *mode)
        stats = json.loads(stats.read_text())
        seconds = stats["seconds"] * stats["engine_busy"]
        self.seconds[mode] = min(seconds, self.seconds.get(mode, math.inf))
        self.stats[mode] = stats
        if not mode:
            scores = [json.loads(line)["score"] for line in output.open()]
            self.rewards = [[scores.pop(0) for _ in json.loads(row)["responses"]] for row in rows.open()]

    def speed(self, config):
        """Milliseconds per tile and per thousand tokens, and GFLOP/s of both parts."""
        whole, white = self.stats[()], self.stats[("--text-only",)]
        # The white image is one tile; the reward graph takes the same tokens of text and white images in both.
        tiles, tokens = whole["tiles"] - white["tiles"], white["tokens"]
        vision = self.seconds[()] - self.seconds[("--text-only",)] * whole["tokens"] / tokens
        reward = self.seconds[("--text-only",)]
        work = linear_work(config)
        return (1e3 * vision / tiles, 1e6 * reward / tokens, work[0] * tiles / vision / 1e9, work[1] * tokens / reward / 1e9)


def linear_work(config):
    """Floating-point operations of the linear layers: per tile, and per token."""
    vision, text = config["vision_config"], config["llm_config"]
    width, ffn = vision["hidden_size"], vision["intermediate_size"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    tokens, wide = patches // 4, 4 * width
    tile = vision["num_hidden_layers"] * (patches + 1) * (4 * width**2 + 2 * width * ffn)
    tile += tokens * text["hidden_size"] * (wide + text["hidden_size"])
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    keys = hidden // heads * text["num_key_value_heads"]
    token = text["num_hidden_layers"] * (2 * hidden**2 + 2 * hidden * keys + 3 * hidden * text["intermediate_size"])
    return 2 * tile, 2 * token


def agreement(got, expected, pairs):
    """The percentage of pairs in the same order, of all pairs and of those with a clear margin."""
    margins = [(expected[a] - expected[b], got[a] - got[b]) for a, b in pairs]
    least = sorted(abs(margin) for margin, _ in margins)[len(margins) // 10]
    share = lambda some: 100 * sum(a * b > 0 for a, b in some) / len(some)
    return share(margins), share([pair for pair in margins if abs(pair[0]) > least])


def correlation(a, b):
    mean = lambda x: sum(x) / len(x)
    a, b = [x - mean(a) for x in a], [x - mean(b) for x in b]
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    return [rank for _, rank in sorted(zip(order, range(len(order))))]


def report(bundle, reference, config):
    got, expected = (sum(b.rewards, []) for b in (bundle, reference))
    ends = [sum(len(row) for row in reference.rewards[:index]) for index in range(len(reference.rewards) + 1)]
    siblings = [pair for start, end in zip(ends, ends[1:]) for pair in combinations(range(start, end), 2)]
    of_row, clear_of_row = agreement(got, expected, siblings)
    of_all, clear_of_all = agreement(got, expected, list(combinations(range(len(expected)), 2)))
    mean = sum(expected) / len(expected)
    error = math.sqrt(sum((g - e) ** 2 for g, e in zip(got, expected)) / sum((e - mean) ** 2 for e in expected))
    vision, reward, vision_rate, reward_rate = bundle.speed(config)
    print(f"{bundle.precision:6}{bundle.bytes / 1e6:7.0f}{of_row:8.1f}{clear_of_row:7.1f}{of_all:8.1f}{clear_of_all:7.1f}"
          f"{correlation(ranks(got), ranks(expected)):8.4f}{100 * error:7.1f}%"
          f"{vision:11.1f}{vision_rate:9.0f}{reward:11.1f}{reward_rate:9.0f}", flush=True)


def compare_bf16(arguments, checkpoint, bundles, folder):
    """Root mean square of the difference to fp32, of every precision and of PyTorch in bf16."""
    material, peer = runtime.Material(checkpoint, folder, tiles=1), runtime.Peer.pytorch(checkpoint, arguments.threads)
    pairs = [material.row(1, f"compare-{index}") for index in range(arguments.compare_bf16)]
    rows = folder / "compare.jsonl"
    rows.write_text("".join(json.dumps(ours) + "\n" for ours, _ in pairs))
    arguments.image_root = folder
    rewards = {}
    for bundle in bundles:
        bundle.score(rows)
        rewards[bundle.precision] = sum(bundle.rewards, [])
    for name, dtype in [("PyTorch fp32", "fp32"), ("PyTorch bf16", "bf16")]:
        ask = lambda row: peer.ask(way="rows", dtype=dtype, row=row)["rewards"]
        rewards[name] = sum((ask(row) for _, row in pairs), [])
    peer.close()
    expected = rewards.pop("fp32")
    rms = lambda values: math.sqrt(sum(value**2 for value in values) / len(values))
    mean = sum(expected) / len(expected)
    print(f"\n{len(expected)} rewards, deviation {rms([value - mean for value in expected]):.2e}; error compared with fp32:")
    errors = {name: rms([g - e for g, e in zip(got, expected)]) for name, got in rewards.items()}
    for name, error in errors.items():
        print(f"{name:13}{error:9.1e}{error / errors['PyTorch bf16']:7.1f} × bf16's")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a trained reward model instead of random weights")
    parser.add_argument("--config", type=Path, default=ROOT / "tests/golden/configs/InternVL2-1B.json")
    parser.add_argument("--layers", type=int, default=2, help="layers of each part of the random model")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "tests/golden/models/qwen2")
    parser.add_argument("--input", type=Path, help="scoring rows with images [default: the demo's]")
    parser.add_argument("--image-root", type=Path, help="folder of --input's images [default: its own]")
    parser.add_argument("--rows", type=int, default=100, help="rows to score, from the start of --input")
    parser.add_argument("--compare-bf16", type=int, default=0, metavar="ROWS", help="rows to compare with PyTorch in bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="folder for the temporary gigabytes")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()

    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_precision.", dir=arguments.folder) as folder:
        folder = Path(folder)
        if arguments.input is None:
            run(arguments.programs / "seeward-fixture", "demo-data", "--images", ROOT / "third_party/easy_vqa",
                "--output", folder / "data")
            arguments.input = folder / "data/iid.jsonl"
        arguments.image_root = arguments.image_root or arguments.input.parent
        rows = folder / "rows.jsonl"
        rows.write_text("".join(arguments.input.open().readlines()[:arguments.rows]))
        checkpoint = arguments.checkpoint or random_checkpoint(arguments, folder)
        config = json.loads((checkpoint / "config.json").read_text())
        bundles = [Bundle(arguments, checkpoint, folder, precision) for precision in PRECISIONS]
        for _ in range(arguments.rounds):
            for bundle in bundles:
                bundle.score(rows)
                bundle.score(rows, "--text-only")
        print(f"{'':6}{'MB':>7}{'pairs':>8}{'clear':>7}{'of all':>8}{'clear':>7}{'rank':>8}{'error':>8}"
              f"{'vision ms':>11}{'GFLOP/s':>9}{'reward ms':>11}{'GFLOP/s':>9}")
        for bundle in bundles:
            report(bundle, bundles[0], config)
        if arguments.compare_bf16:
            compare_bf16(arguments, checkpoint, bundles, folder)


if __name__ == "__main__":
    main()
