#!/usr/bin/env python3
"""Errors of all precisions on trained weights: a published language model under random score heads.

The language model is SmolLM2-135M-Instruct, converted from the GGUF file that scripts/setup.py --real fetches; the vision
encoder, small, the projector and the score head have random weights, others for each of several models. Two sets of rows are
scored: texts alone, and images of easy-VQA with the demo's questions and answers. PyTorch with Hugging Face transformers'
InternVL of the same weights (scripts/setup.py --peer) scores the same conversations, in fp32 to show that both compute the
same, and in bf16 as the measure of what a precision may cost.

All errors are relative to the bundle in fp32. Those of the models are combined as root mean squares, the pairs counted together:

rms       root mean square of the rewards' error, as a share of the rewards' deviation (the spread)
bias      mean of the rewards' error, as a share of the same
margins   root mean square of the error of margins between responses of one row, as a share of those margins' own
pairs     responses of one row that stay in order, in percent
clear     the same for pairs whose margin in fp32 is above the 10th percentile
"""

import argparse
import json
import math
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import runtime

ROOT = Path(__file__).resolve().parents[2]
GGUF = ROOT / "third_party/real/language_model.gguf"
TEXTS = Path(__file__).with_name("real_texts.jsonl")
PRECISIONS = {"fp32": [], "bf16": ["--dtype", "bf16"], "int8": ["--quantize", "int8"]}
PEERS = ["fp32", "bf16"]
IMAGE_TOKENS = 16


class Rows:
    """Rows to score, with their images."""

    def __init__(self, name, path, images, count):
        self.name, self.path, self.images = name, path, images
        self.rows = [json.loads(line) for line in path.open()][:count]

    def write(self, folder):
        path = folder / f"{self.name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        return path

    def questions(self, folder):
        """The same for PyTorch: the template written out, and the pixels of the image."""
        for index, row in enumerate(self.rows):
            question, image = {}, ""
            if row.get("img_path"):
                question["tiles"] = str(tiles(self.images / row["img_path"], folder / f"{self.name}-{index}.npy"))
                image = "<img>" + "<IMG_CONTEXT>" * IMAGE_TOKENS + "</img>\n"
            question["prompt"] = (f"<|im_start|>system\n{runtime.family.InternVL.SYSTEM}<|im_end|><|im_start|>user\n{image}{row['prompt']}"
                                  "<|im_end|><|im_start|>assistant\n")
            question["responses"] = [response + "<|im_end|>" for response in row["responses"]]
            yield question


def tiles(image, path):
    """The image as one tile; its size is the model's."""
    import numpy as np
    from PIL import Image

    np.save(path, np.asarray(Image.open(image).convert("RGB"))[None])
    return path


def score(arguments, folder, precision, rows):
    """Rewards by row."""
    bundle, output = folder / precision, folder / f"{precision}-{rows.name}.jsonl"
    runtime.run(arguments.programs / "seeward-score", "--model", bundle, "--input", rows.write(folder), "--output", output,
        "--image-root", rows.images, "--threads", arguments.threads, "--no-resume")
    scores = iter([json.loads(line)["score"] for line in output.open()])
    return [[next(scores) for _ in row["responses"]] for row in rows.rows]


def margins(rewards):
    return [a - b for row in rewards for a, b in combinations(row, 2)]


def rms(values):
    return math.sqrt(sum(value**2 for value in values) / len(values))


def errors(got, expected):
    """The columns of the table for one model; pairs as (kept, all)."""
    flat, other = sum(expected, []), sum(got, [])
    mean = sum(flat) / len(flat)
    spread = rms([value - mean for value in flat])
    differences = [g - e for g, e in zip(other, flat)]
    pairs = list(zip(margins(got), margins(expected)))
    least = sorted(abs(margin) for _, margin in pairs)[len(pairs) // 10]
    kept = lambda some: (sum(g * e > 0 for g, e in some), len(some))
    return {
        "rms": rms(differences) / spread,
        "bias": sum(differences) / len(differences) / spread,
        "margins": rms([g - e for g, e in pairs]) / rms([e for _, e in pairs]),
        "pairs": kept(pairs),
        "clear": kept([pair for pair in pairs if abs(pair[1]) > least]),
    }


def combined(models):
    """The columns of several models as those of one."""
    column = lambda name: [columns[name] for columns in models]
    share = lambda name: 100 * sum(kept for kept, _ in column(name)) / sum(count for _, count in column(name))
    return {name: rms(column(name)) for name in ("rms", "bias", "margins")} | {name: share(name) for name in ("pairs", "clear")}


def line(name, columns):
    return (f"{name:14}{columns['rms']:9.4f}{columns['bias']:9.4f}{columns['margins']:9.4f}{columns['pairs']:8.1f}"
            f"{columns['clear']:7.1f}")


def export(arguments, folder, seed):
    """A model with random weights of this seed around the language model, and its bundles."""
    model = folder / "model"
    runtime.run(arguments.programs / "seeward-fixture", "reward-model", "--language-model", arguments.output / "language_model",
        "--output", model, "--seed", seed)
    for precision, flags in PRECISIONS.items():
        runtime.run(arguments.programs / "seeward-export", "--checkpoint", model, "--output", folder / precision,
            "--target", "cpu", *flags)


def model_errors(arguments, seed, sets):
    """The columns of one model, by set and precision."""
    table = {}
    with tempfile.TemporaryDirectory(dir=arguments.output) as folder:
        folder = Path(folder)
        export(arguments, folder, seed)
        peer = runtime.Peer.pytorch(folder / "model", arguments.threads)
        for rows in sets:
            rewards = {name: score(arguments, folder, name, rows) for name in PRECISIONS}
            questions = list(rows.questions(folder))
            for dtype in PEERS:
                ask = lambda question: peer.ask(way="rows", dtype=dtype, row=question)["rewards"]
                rewards[f"PyTorch {dtype}"] = [ask(question) for question in questions]
            expected = rewards.pop("fp32")
            table[rows.name] = {name: errors(got, expected) for name, got in rewards.items()}
        peer.close()
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "out/real", help="folder for the data and errors.json")
    parser.add_argument("--rows", type=int, default=24, help="rows of each set")
    parser.add_argument("--models", type=int, default=8, help="models, each with random weights of another seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()

    folder, fixture = arguments.output, arguments.programs / "seeward-fixture"
    folder.mkdir(parents=True, exist_ok=True)
    runtime.run(fixture, "language-model", "--gguf", GGUF, "--output", folder / "language_model")
    runtime.run(fixture, "demo-data", "--images", ROOT / "third_party/easy_vqa", "--output", folder / "data")
    sets = [Rows("texts", TEXTS, TEXTS.parent, arguments.rows),
            Rows("images", folder / "data/iid.jsonl", folder / "data", arguments.rows)]
    models = []
    for seed in range(arguments.models):
        print(f"bench/real.py: model {seed + 1} of {arguments.models}", file=sys.stderr, flush=True)
        models.append(model_errors(arguments, seed, sets))
    table = {}
    for rows in sets:
        print(f"{rows.name}\n{'':14}{'rms':>9}{'bias':>9}{'margins':>9}{'pairs':>8}{'clear':>7}")
        names = models[0][rows.name]
        table[rows.name] = {name: combined([model[rows.name][name] for model in models]) for name in names}
        for name, columns in table[rows.name].items():
            print(line(name, columns), flush=True)
    (folder / "errors.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
