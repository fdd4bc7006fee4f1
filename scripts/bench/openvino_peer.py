#!/usr/bin/env python3
"""The same rewards from OpenVINO, which reads the graphs of a portable bundle: another engine for runtime.py.

Reads a question a line on stdin, as JSON, and answers each with a line of JSON on stdout. A row is laid out as Seeward does
it: the prefix that all responses share once, then their own tokens. In int8 the graphs are quantized by NNCF's defaults for
transformers, calibrated on the first row that is asked for, and the rest is in bf16.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "third_party/peer"))

import numpy as np  # noqa: E402
import openvino  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

IMAGE_TOKEN = "<IMG_CONTEXT>"
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}


class Scorer:
    """The graphs in one precision."""

    def __init__(self, bundle, dtype, threads, row):
        manifest = json.loads((bundle / "reward_model.json").read_text())
        self.rope, self.hidden = manifest["rope"], manifest["hidden_size"]
        self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self.core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype], "INFERENCE_NUM_THREADS": threads}
        compiled = lambda graph: self.core.compile_model(graph, "CPU", options)
        vision, reward = (self.core.read_model(bundle / f"{name}.onnx") for name in ("vision", "reward"))
        if dtype == "int8":
            tiles, inputs = np.load(row["tiles"]), self.forest(row)
            embeddings = np.concatenate([compiled(vision)([tile[None]])[0] for tile in tiles])
            vision = quantized(vision, [{"pixels": tile[None]} for tile in tiles])
            reward = quantized(reward, [self.with_images(inputs, embeddings)])
        self.vision, self.reward = compiled(vision), compiled(reward)

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def forest(self, row):
        """The inputs of the reward graph for a row with one document, but for its images."""
        conversations = [self.ids(row["prompt"] + response) for response in row["responses"]]
        prefix = common_prefix(conversations)
        own = [ids[prefix:] for ids in conversations]
        lengths = [prefix] + [len(ids) for ids in own]
        ids = np.array([*conversations[0][:prefix], *(id for branch in own for id in branch)])
        positions = np.concatenate([np.arange(prefix), *(prefix + np.arange(len(branch)) for branch in own)])
        cos, sin = self.tables(max(lengths[1:]) + prefix)
        return {
            "input_ids": ids[None],
            "position_ids": positions[None],
            "document_ids": np.zeros((1, len(ids)), np.int32),
            "branch_ids": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None],
            "image_positions": np.flatnonzero(ids == self.tokenizer.token_to_id(IMAGE_TOKEN)),
            "rope_cos": cos,
            "rope_sin": sin,
            "reward_positions": np.cumsum(lengths)[1:] - 1,
        }

    def tables(self, positions):
        """Cosines and sines [positions, head/2]."""
        size = self.rope["head_dim"]
        frequencies = 1 / self.rope["theta"] ** (np.arange(0, size, 2) / size)
        angles = np.arange(positions)[:, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def with_images(self, inputs, embeddings):
        return {**inputs, "image_embeds": embeddings.reshape(-1, self.hidden)}

    def rewards(self, row):
        """A tile at a time, which is faster here than all at once, and then the whole row."""
        tiles = np.load(row["tiles"])
        embeddings = np.concatenate([self.vision([tile[None]])[0] for tile in tiles])
        return self.reward(self.with_images(self.forest(row), embeddings))[0].ravel().tolist()


def common_prefix(conversations):
    """Tokens that all conversations share; each keeps at least one after them."""
    least = min(map(len, conversations)) - 1
    differs = (index for index in range(least) if len({ids[index] for ids in conversations}) > 1)
    return next(differs, least)


def quantized(graph, inputs):
    import nncf

    return nncf.quantize(graph, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="portable, in fp32")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    # NNCF reports its progress on stdout.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    scorers = {}
    for line in sys.stdin:
        question = json.loads(line)
        row, dtype = question["row"], question["dtype"]
        if dtype not in scorers:
            scorers[dtype] = Scorer(arguments.bundle, dtype, arguments.threads, row)
            scorers[dtype].rewards(row)  # kernels are made in the first run of a shape
        start, spent = time.perf_counter(), time.process_time()
        rewards = scorers[dtype].rewards(row)
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - spent,
                          "rewards": rewards, "chosen": None}), file=answers, flush=True)


if __name__ == "__main__":
    main()
