#!/usr/bin/env python3
"""A training step of the same weights in PyTorch with Hugging Face transformers' InternVL: the other half of train.py.

Every conversation is a separate row, as in the published code. Takes the description of the work that our half printed,
reads one question a line on stdin and answers each with a line of JSON on stdout.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import peer  # isort: skip; it adds the packages to the path

import torch


class Branch:
    """One reward model, and the conversations that it reads: chosen, rejected, chosen, …"""

    def __init__(self, checkpoint, kind, work):
        self.model, head = peer.load(checkpoint, kind)
        self.model.train()
        self.model.vision_tower.requires_grad_(False)
        self.head = head.float().requires_grad_()
        self.ids = torch.tensor(work["input_ids"])
        side = self.model.config.vision_config.image_size[0]
        tiles = torch.frombuffer(bytearray(Path(work["pixels"]).read_bytes()), dtype=torch.uint8)
        self.pixels = peer.normalized(tiles.view(-1, side, side, 3)).to(kind).contiguous()

    def parameters(self):
        return [*(p for p in self.model.parameters() if p.requires_grad), self.head]

    def losses(self, pairs):
        rows, share = 2 * pairs, 2 * pairs / len(self.ids)
        pixels = self.pixels[:int(len(self.pixels) * share)]
        hidden = self.model(input_ids=self.ids[:rows], pixel_values=pixels, use_cache=False).last_hidden_state
        rewards = (hidden[:, -1].float() @ self.head.T).view(-1, 2)
        return -torch.nn.functional.logsigmoid(rewards[:, 0] - rewards[:, 1])


def total(losses):
    """The published loss: of the main branch alone, or weighted by the text-only branch's failure."""
    if len(losses) == 1:
        return losses[0].mean()
    main, text = losses
    failure = 5e-8 + text.detach() / (1e-7 + text.detach() + main.detach())
    return (failure * main + text).mean()


def backward(branches, question):
    for branch in branches:
        branch.model.set_attn_implementation(question["attention"])
        for parameter in branch.parameters():
            parameter.grad = None
    started = time.perf_counter()
    loss = total([branch.losses(question["pairs"]) for branch in branches])
    loss.backward()
    return {"seconds": time.perf_counter() - started, "loss": loss.item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--work", required=True, help="the description of the work, JSON")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    work = json.loads(Path(arguments.work).read_text())
    branches = [Branch(arguments.checkpoint, kind, work[name]) for name in ("main", "text") if work[name]]
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(backward(branches, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
