#!/usr/bin/env python3
"""Golden text reward models, computed by transformers: tests/golden/families/{qwen2_text,llama_text}.

    python3 scripts/golden/families.py

Needs third_party/peer (`make setup`), and writes the same files again. The weights are random (seed 0), the rewards have
no meaning. `heads.safetensors` has further heads over the weights of qwen2_text, and `heads` of golden.json their rewards:
several outputs, a bias, layers with an activation, a reward at a special token, the mean over all tokens.
"""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "third_party/peer"))

import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

FAMILIES = ROOT / "tests/golden/families"
SPECIALS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=4096, num_labels=1,
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
)


def tokenizer(folder, template):
    """Qwen3's, and for Llama its tokens, the first of which the file adds to every text."""
    base = tokenizers.Tokenizer.from_file(str(FAMILIES / "qwen3_text/model/tokenizer.json"))
    known = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    if template is LLAMA3:
        base.add_special_tokens(SPECIALS)
        begin = (SPECIALS[0], base.token_to_id(SPECIALS[0]))
        base.post_processor = tokenizers.processors.TemplateProcessing(single=f"{SPECIALS[0]} $A", special_tokens=[begin])
        known |= {"bos_token": SPECIALS[0], "eos_token": SPECIALS[3]}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=base, chat_template=template, **known)
    base.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **known}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return fast


def randomise(model):
    """Weights so large that every tensor has a visible effect."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            noise = torch.randn(tensor.shape, generator=generator)
            is_scale = "norm" in name and name.endswith("weight") or "lambda" in name
            inputs = tensor[0].numel()
            tensor.copy_(1 + 0.2 * noise if is_scale else noise * (0.3 if tensor.dim() in (1, 3) else inputs**-0.5))


def conversations():
    cases = (FAMILIES / "cases.jsonl").read_text().splitlines()
    for case in map(json.loads, cases):
        yield [(case["prompt"], response) for response in case["responses"]]


def ids(fast, prompt, response):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = fast.apply_chat_template(messages, tokenize=False)
    return fast(text, add_special_tokens=False)["input_ids"]


def make(family, config_class, model_class, template, **keys):
    folder = FAMILIES / family / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fast = tokenizer(folder, template)
    config = config_class(vocab_size=len(fast), pad_token_id=fast.pad_token_id, **SIZES, **keys)
    config._attn_implementation = "eager"
    model = model_class(config).float().eval()
    randomise(model)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    rows = []
    for row in conversations():
        tokens = [ids(fast, *conversation) for conversation in row]
        with torch.no_grad():
            rewards = [model(torch.tensor([t])).logits.item() for t in tokens]
        rows.append({"responses": [{"reward": r, "input_ids": t} for r, t in zip(rewards, tokens)], "images": []})
    return model, rows


def heads(model):
    """Heads over the hidden states [tokens, width], and the reward of each for a conversation."""
    width = model.config.hidden_size
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) / shape[-1] ** 0.5  # noqa: E731
    outputs, up, down, bias = draw(3, width), draw(16, width), draw(1, 16), draw(16)
    value, value_bias = draw(1, width) * 1.5, torch.tensor([0.25])
    save_file(
        {
            "outputs.score.weight": outputs,
            "value.v_head.summary.weight": value, "value.v_head.summary.bias": value_bias,
            "layers.score.0.weight": up, "layers.score.0.bias": bias, "layers.score.2.weight": down,
        },
        FAMILIES / "qwen2_text/heads.safetensors",
    )
    last = lambda x: x[-1]  # noqa: E731
    layers = lambda f: lambda x, t: (f(last(x) @ up.T + bias) @ down.T)[0]  # noqa: E731
    score = model.score.weight
    at = lambda token: lambda x, t: (x[max(i for i, id in enumerate(t) if id == token)] @ score.T)[0]  # noqa: E731
    return {
        "output 1 of 3": lambda x, t: (last(x) @ outputs.T)[1],
        "value head": lambda x, t: (last(x) @ value.T + value_bias)[0],
        "layers with relu": layers(torch.relu),
        "layers with silu": layers(torch.nn.functional.silu),
        "layers with gelu": layers(torch.nn.functional.gelu),
        "layers with tanh": layers(torch.tanh),
        "at <|im_start|>": at(561),
        "at <|im_end|>": at(562),
        "mean": lambda x, t: (x @ score.T)[:, 0].mean(),
    }


def write(family, note, rows, script="families.py", **more):
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, float32, eager attention"
    head = json.dumps({"made_by": f"scripts/golden/{script}: {versions}", "note": note, **more}, indent=1)
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    (FAMILIES / family / "golden.json").write_text(f'{head[:-2]},\n "rows": [\n  {lines}\n ]\n}}\n')


def main():
    torch.set_num_threads(1)
    model, rows = make(
        "qwen2_text", transformers.Qwen2Config, transformers.Qwen2ForSequenceClassification, CHATML, rope_theta=1e6
    )
    rewards = {}
    with torch.no_grad():
        for name, head in heads(model).items():
            states = lambda t: model.model(torch.tensor([t])).last_hidden_state[0]  # noqa: E731
            of_row = lambda row: [head(states(r["input_ids"]), r["input_ids"]).item() for r in row["responses"]]  # noqa: E731
            rewards[name] = [of_row(row) for row in rows]
    write("qwen2_text", "Qwen2ForSequenceClassification.", rows, template="chatml", heads=rewards)
    scaling = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    scaling["original_max_position_embeddings"] = 32
    _, rows = make(
        "llama_text", transformers.LlamaConfig, transformers.LlamaForSequenceClassification, LLAMA3, rope_parameters=scaling
    )
    write("llama_text", "LlamaForSequenceClassification with llama3 scaling.", rows, template="llama3")


if __name__ == "__main__":
    main()
