#!/usr/bin/env python3
"""Runs three steps of TRL's GRPO with a small random policy and `seeward.trl.RewardFunction`, and checks what TRL logged.

It needs the packages seeward, trl and torch (pip install dist/seeward-….whl trl), which are too large for make test. A
quarter of the prompts name an image that is missing: their rewards must be None, and all others finite.
"""

import argparse
import math
import tempfile
from pathlib import Path

import datasets
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from seeward.trl import RewardFunction

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS, COMPLETIONS = 3, 4


class Counted(RewardFunction):
    """Keeps what it returned."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.calls = []

    def __call__(self, prompts, completions, paths, **columns):
        columns.pop("images", None)
        rewards = super().__call__(prompts, completions, images=[[path] for path in paths], **columns)
        self.calls.append((rewards, [Path(path).exists() for path in paths]))
        return rewards


def policy(tokenizer):
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 256}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **size, **heads, **tokens))


def prompts():
    names = ["vqa0.png", "vqa1.png", "gray.png", "missing.png"]
    rows = [{"prompt": f"what color is shape {n}?", "paths": str(GOLDEN / "images" / names[n % 4])} for n in range(16)]
    return datasets.Dataset.from_list(rows)


def train(bundle, output):
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "models" / "qwen2")
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.pad_token or tokenizer.eos_token, "left"
    reward = Counted(bundle, threads=1)
    settings = GRPOConfig(
        output_dir=output, per_device_train_batch_size=4 * COMPLETIONS, num_generations=COMPLETIONS, max_completion_length=8,
        max_steps=STEPS, logging_steps=1, report_to="none", use_cpu=True, save_strategy="no", bf16=False, disable_tqdm=True,
    )  # fmt: skip
    given = {"args": settings, "train_dataset": prompts(), "processing_class": tokenizer}
    trainer = GRPOTrainer(model=policy(tokenizer), reward_funcs=reward, **given)
    trainer.train()
    return reward.calls, trainer.state.log_history


def main():
    parser = argparse.ArgumentParser(description="Runs three steps of TRL's GRPO with seeward's reward function.")
    parser.add_argument("--bundle", default=GOLDEN / "bundles" / "qwen2", help="the reward model; a small one by default")
    with tempfile.TemporaryDirectory() as output:
        calls, logged = train(parser.parse_args().bundle, output)
    assert len(calls) == STEPS, len(calls)
    for rewards, exist in calls:
        assert [reward is not None for reward in rewards] == exist, (rewards, exist)
    means = [record["rewards/seeward/mean"] for record in logged if "rewards/seeward/mean" in record]
    failed = [record["seeward/failed"] for record in logged if "seeward/failed" in record]
    assert len(means) == STEPS and all(map(math.isfinite, means)), means
    print("rewards/seeward/mean:", *(f"{mean:.4f}" for mean in means))
    print("seeward/failed:", *failed, "of", len(calls[0][0]))


if __name__ == "__main__":
    main()
