#!/usr/bin/env python3
"""The same rewards from PyTorch with Hugging Face transformers' InternVL or Qwen2.5-VL: the other half of runtime.py.

Reads a question a line on stdin, as JSON, and answers each with a line of JSON on stdout. There is no head over the
vocabulary: the score head is applied to the last token's hidden state. Each part uses the
faster of transformers' attention implementations.
"""

import argparse
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path

import peer  # isort: skip; it adds the packages to the path
import qwen_peer

import numpy as np
import torch
from tokenizers import Tokenizer

IMPLEMENTATIONS = ["sdpa", "eager"]
AT_ONCE = 16  # responses in one batch over a cache: the cache is copied for each


class Scorer:
    """The model in one precision."""

    load, vision = staticmethod(peer.load), "vision_tower"

    def __init__(self, checkpoint, dtype, device):
        self.dtype, self.device = dtype, device
        self.model, self.head = (part.to(device) for part in self.load(checkpoint, dtype))
        self.tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.is_compiled = False

    def ids(self, text):
        return torch.tensor([self.tokenizer.encode(text, add_special_tokens=False).ids], device=self.device)

    def images(self, row):
        """The row's tiles as arguments of the model, if it has an image."""
        if "tiles" not in row:
            return {}
        pixels = peer.normalized(torch.from_numpy(np.load(row["tiles"])))
        return {"pixel_values": pixels.to(self.device, self.dtype)}

    def marks(self, ids):
        """What the model needs for its positions besides the tokens and images."""
        return {}

    def positions(self, prompt, images, shape):
        """The positions of responses of this shape after the prompt, as an argument."""
        return {}

    def reward(self, hidden):
        return (hidden[:, -1].float() @ self.head.float().T).squeeze(1).tolist()

    def rows(self, row):
        """The usual way: every response is a whole conversation with its image."""
        rewards = []
        for response in row["responses"]:
            ids = self.ids(row["prompt"] + response)
            out = self.model(input_ids=ids, use_cache=False, **self.images(row), **self.marks(ids))
            rewards += self.reward(out.last_hidden_state)
        return rewards

    def shared(self, row):
        """The fastest way in PyTorch: one pass for image and prompt, whose keys and values all responses reuse."""
        prompt, images = self.ids(row["prompt"]), self.images(row)
        rewards = []
        out = self.model(input_ids=prompt, use_cache=True, **images, **self.marks(prompt))
        cache = peer.cache_of(out)
        for start in range(0, len(row["responses"]), AT_ONCE):
            some = torch.cat([self.ids(response) for response in row["responses"][start:start + AT_ONCE]])
            repeated = peer.repeated(cache, len(some))
            positions = self.positions(prompt, images, some.shape)
            out = self.model.language_model(input_ids=some, use_cache=True, **positions, **{peer.CACHE: repeated})
            rewards += self.reward(out.last_hidden_state)
        return rewards

    def compiled(self, row):
        """As `shared`, with both parts compiled at the first row, for lengths of any kind."""
        if not self.is_compiled:
            getattr(self.model, self.vision).compile()
            self.model.language_model.compile(dynamic=True)
            self.is_compiled = True
            self.shared(row)
        return self.shared(row)

    def choose(self, row):
        """Selects the faster attention for each part, by one timed run after one warm-up run."""
        images, ids = self.images(row), self.ids(row["prompt"] + row["responses"][0])
        parts = {"LLM": (self.model.language_model, lambda: self.model.language_model(input_ids=ids, use_cache=False))}
        if images:
            parts["vision"] = getattr(self.model, self.vision), lambda: self.model.get_image_features(**images)
        chosen = {}
        for name, (part, run) in parts.items():
            seconds = {}
            for implementation in IMPLEMENTATIONS:
                part.set_attn_implementation(implementation)
                run()
                seconds[implementation] = timed(run)[0]
            chosen[name] = min(seconds, key=seconds.get)
            part.set_attn_implementation(chosen[name])
        return chosen


class QwenScorer(Scorer):
    """Qwen2.5-VL: whole images as patches, and positions with three axes."""

    load, vision = staticmethod(qwen_peer.load), "visual"

    def images(self, row):
        patches, grid = qwen_peer.patches(torch.from_numpy(np.load(row["tiles"])[0]))
        return {"pixel_values": patches.to(self.device, self.dtype), "image_grid_thw": grid.to(self.device)}

    def marks(self, ids):
        return {"mm_token_type_ids": (ids == self.model.config.image_token_id).int()}

    def positions(self, prompt, images, shape):
        axes, _ = self.model.get_rope_index(prompt, image_grid_thw=images["image_grid_thw"], **self.marks(prompt))
        after = axes.max() + 1 + torch.arange(shape[1], device=self.device)
        return {"position_ids": after.expand(3, *shape)}


def scorer(checkpoint, dtype, device):
    model_type = json.loads((checkpoint / "config.json").read_text())["model_type"]
    return {"qwen2_5_vl": QwenScorer}.get(model_type, Scorer)(checkpoint, dtype, device)


def timed(work):
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def matmul_rates(device):
    """Operations a second of a large product, by element type, the best of five."""
    m, k, n = (4100, 1024, 4096) if device == "cpu" else (8192, 4096, 8192)
    a, b = torch.randn(m, k, device=device), torch.randn(n, k, device=device)
    whole = [torch.randint(-127, 127, size, dtype=torch.int8, device=device) for size in [(m, k), (n, k)]]
    products = {"fp32": lambda: a @ b.T, "int8": lambda: torch._int_mm(whole[0], whole[1].T)}
    for name, dtype in [("bf16", torch.bfloat16), ("fp16", torch.float16)]:
        narrow = a.to(dtype), b.to(dtype)
        products[name] = lambda narrow=narrow: narrow[0] @ narrow[1].T
    return {name: 2 * m * k * n / min(timed(product)[0] for _ in range(5)) for name, product in products.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scorers = {}
    with torch.inference_mode():
        for line in sys.stdin:
            question = json.loads(line)
            if question["way"] == "rates":
                answer = matmul_rates(arguments.device)
            else:
                answer = ask(question, scorers, arguments)
            print(json.dumps(answer), flush=True)


def missing(way, device):
    """What torch.compile lacks here, or None."""
    if way != "compiled":
        return None
    if not torch.distributed.is_available():
        return "torch.compile needs PyTorch's distributed part, which scripts/cuda_stand_in.py does not have"
    if device == "cpu" and shutil.which("g++") is None:
        return "torch.compile needs g++"
    if device != "cpu" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton"
    return None


def ask(question, scorers, arguments):
    row, way, chosen = question["row"], question["way"], None
    lacks = missing(way, arguments.device)
    if lacks:
        return {"missing": lacks}
    # The compiled model is another one, so that the others stay eager.
    key = question["dtype"], way == "compiled"
    if key not in scorers:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[question["dtype"]]
        scorers[key] = scorer(arguments.checkpoint, kind, arguments.device)
        chosen = scorers[key].choose(row)
    if arguments.device != "cpu" or way == "compiled":
        # A GPU's libraries load kernels in their first run, and a compiled model is compiled in it.
        getattr(scorers[key], way)(row)
    start = time.process_time()
    seconds, rewards = timed(lambda: getattr(scorers[key], way)(row))
    return {"seconds": seconds, "cpu_seconds": time.process_time() - start, "rewards": rewards, "chosen": chosen}


if __name__ == "__main__":
    main()
