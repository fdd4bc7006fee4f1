#!/usr/bin/env python3
"""The golden InternVL2.5 over InternLM2.5: tests/golden/families/internvl2_5.

    pip install --target FOLDER sentencepiece==0.2.0
    PYTHONPATH=FOLDER python3 scripts/golden/internvl2_5.py

Needs third_party/peer (`make setup`). transformers computes the rewards by its own InternVL over Llama, whose weights are
renamed and packed as the published code has them. Template, tiles and tokens are written here after the published code;
the tokens are first compared with golden ones of the published tokenizer, the tiles with those of internvl3. The weights
are random (seed 0), the rewards have no meaning. The same files are written again.
"""

import hashlib
import json
import re
import shutil

from families import FAMILIES, ROOT, randomise, write
from sentencepiece import SentencePieceProcessor

import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

GOLDEN = ROOT / "tests/golden"
TOKENIZER = GOLDEN / "models/internlm2"
FOLDER = FAMILIES / "internvl2_5/model"
SYSTEM = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
SIDE, MAX_TILES, TOKENS_PER_TILE = 56, 6, 4
MEAN, STD = numpy.array([0.485, 0.456, 0.406]), numpy.array([0.229, 0.224, 0.225])
VISION = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, layer_norm_eps=1e-6)
TEXT = dict(
    hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    rms_norm_eps=1e-5, max_position_embeddings=32768, vocab_size=917,
)
SCALING = {"type": "dynamic", "factor": 2.0}
# transformers' names → the published ones, where they differ.
NAMES = [
    ("vision_tower.embeddings.cls_token", "vision_model.embeddings.class_embedding"),
    ("vision_tower.embeddings.position_embeddings", "vision_model.embeddings.position_embedding"),
    ("vision_tower.embeddings.patch_embeddings.projection", "vision_model.embeddings.patch_embedding"),
    ("vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    ("attention.projection_layer", "attn.proj"), ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
    ("lambda_1", "ls1"), ("lambda_2", "ls2"),
    ("multi_modal_projector.layer_norm", "mlp1.0"), ("multi_modal_projector.linear_1", "mlp1.1"),
    ("multi_modal_projector.linear_2", "mlp1.3"),
    ("language_model.", "language_model.model."), ("embed_tokens", "tok_embeddings"), ("self_attn.o_proj", "attention.wo"),
    ("mlp.gate_proj", "feed_forward.w1"), ("mlp.up_proj", "feed_forward.w3"), ("mlp.down_proj", "feed_forward.w2"),
    ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "ffn_norm"),
]


class Tokenizer:
    """InternLM2's: added tokens are whole wherever they stand, SentencePiece reads the text between them."""

    def __init__(self):
        self.pieces = SentencePieceProcessor(str(TOKENIZER / "tokenizer.model"))
        added = json.loads((TOKENIZER / "tokenizer_config.json").read_text())["added_tokens_decoder"]
        self.added = {token["content"]: int(id) for id, token in added.items()}
        self.split = re.compile("(" + "|".join(map(re.escape, sorted(self.added, key=len, reverse=True))) + ")")
        golden = json.loads((GOLDEN / "tokenize/internlm2-chat__internlm2/golden.json").read_text())
        for case in golden["cases"]:
            assert self(case["conversation"])[: case["max_length"]] == case["input_ids"], case["conversation"]

    def __call__(self, text):
        parts = [part for part in self.split.split(text) if part]
        return [1] + [id for part in parts for id in ([self.added[part]] if part in self.added else self.pieces.encode(part))]


def tiles(image):
    """The image's tiles and, if there are several, the whole image: u8 [tiles, side, side, 3]."""
    grids = {(x, y) for x in range(1, MAX_TILES + 1) for y in range(1, MAX_TILES + 1) if x * y <= MAX_TILES}
    ratio, best, grid = image.width / image.height, float("inf"), (1, 1)
    for x, y in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        distance = abs(ratio - x / y)
        large = image.width * image.height > 0.5 * SIDE * SIDE * x * y
        if distance < best or (distance == best and large):
            best, grid = distance, (x, y)
    x, y = grid
    whole = numpy.asarray(image.resize((x * SIDE, y * SIDE)))
    parts = whole.reshape(y, SIDE, x, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(-1, SIDE, SIDE, 3)
    thumbnail = [numpy.asarray(image.resize((SIDE, SIDE)))[None]] if x * y > 1 else []
    return numpy.concatenate([parts, *thumbnail])


def pixels(images):
    """Normalised: float [tiles, 3, side, side]."""
    if not images:
        return None
    values = (numpy.concatenate(images) / 255 - MEAN) / STD
    return torch.tensor(values.transpose(0, 3, 1, 2), dtype=torch.float32)


def conversation(prompt, response, images, system=SYSTEM):
    if len(images) == 1 or "<image>" not in prompt:
        prompt = "<image>\n" * len(images) + prompt
    for image in images:
        context = "<IMG_CONTEXT>" * TOKENS_PER_TILE * len(image)
        prompt = prompt.replace("<image>", f"<img>{context}</img>", 1)
    user = f"<|im_start|>user\n{prompt}<|im_end|>\n" if prompt else "<|im_start|>user\n"
    assistant = f"<|im_start|>assistant\n{response}<|im_end|>\n" if response else "<|im_start|>assistant\n"
    return f"<|im_start|>system\n{system}<|im_end|>\n{user}{assistant}"


class Model:
    def __init__(self):
        vision = transformers.InternVLVisionConfig(image_size=[SIDE] * 2, patch_size=[14] * 2, attention_bias=True, **VISION)
        scaling = {"rope_type": "dynamic", "factor": SCALING["factor"], "rope_theta": 1e6}
        text = transformers.LlamaConfig(rope_parameters=scaling, **TEXT)
        self.tokenizer = Tokenizer()
        image_token = self.tokenizer.added["<IMG_CONTEXT>"]
        config = transformers.InternVLConfig(vision_config=vision, text_config=text, image_token_id=image_token)
        config._attn_implementation = "eager"
        self.network = transformers.InternVLModel(config).float().eval()
        self.score = torch.nn.Linear(TEXT["hidden_size"], 1, bias=False)
        self.output = torch.nn.Linear(TEXT["hidden_size"], TEXT["vocab_size"], bias=False)
        for module in [self.network, self.score, self.output]:
            randomise(module)

    def ids(self, *arguments, **keys):
        return self.tokenizer(conversation(*arguments, **keys))

    def reward(self, ids, images, at=-1):
        with torch.no_grad():
            states = self.network(input_ids=torch.tensor([ids]), pixel_values=pixels(images)).last_hidden_state[0]
            return self.score(states[at]).item()

    def tensors(self):
        tensors = {published(name): tensor.detach().clone() for name, tensor in self.network.named_parameters()}
        for name in [name for name in tensors if "q_proj" in name]:
            q, k, v = [tensors.pop(name.replace("q_proj", part)) for part in ["q_proj", "k_proj", "v_proj"]]
            if "vision" in name:
                tensors[name.replace("attention.q_proj", "attn.qkv")] = torch.cat([q, k, v])
            else:
                by_key = [tensor.view(TEXT["num_key_value_heads"], -1, q.shape[1]) for tensor in [q, k, v]]
                packed = torch.cat(by_key, 1).reshape(-1, q.shape[1])
                tensors[name.replace("self_attn.q_proj", "attention.wqkv")] = packed
        return tensors | {
            "score.weight": self.score.weight.detach(), "language_model.output.weight": self.output.weight.detach()
        }


def published(name):
    for theirs, ours in NAMES:
        if theirs in name and not (theirs == "language_model." and name.startswith("language_model.model.")):
            name = name.replace(theirs, ours)
    return name


def rows(model):
    white = [numpy.full((1, SIDE, SIDE, 3), 255, "uint8")]  # never cut into tiles
    for case in map(json.loads, (FAMILIES / "cases.jsonl").read_text().splitlines()):
        paths = case.get("img_path", [])
        paths = [paths] if isinstance(paths, str) else paths
        images = [tiles(Image.open(FAMILIES / path).convert("RGB")) for path in paths]
        responses = []
        for text in case["responses"]:
            ids = model.ids(case["prompt"], text, images)
            response = {"reward": model.reward(ids, images)}
            if len(images) == 1:
                response["reward_text_only"] = model.reward(model.ids(case["prompt"], text, white), white)
                response["reward_image_only"] = model.reward(model.ids("", text, images), images)
            responses.append(response | {"input_ids": ids})
        hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        described = [{"tiles": len(image), "pixels_sha256": hash} for image, hash in zip(images, hashes)]
        yield {"responses": responses, "images": described}


def controls(model, rows):
    """How much the largest reward changes by one mistake each, and the least that a tensor changes one."""
    cases = [json.loads(line) for line in (FAMILIES / "cases.jsonl").read_text().splitlines()]
    images = [[tiles(Image.open(FAMILIES / case["img_path"]).convert("RGB"))] for case in cases[:7]]
    known = [row["responses"][0] for row in rows[:7]]
    change = lambda of: max(abs(of(i) - known[i]["reward"]) for i in range(7))  # noqa: E731
    ids = lambda i: known[i]["input_ids"]  # noqa: E731
    bare = lambda i: model.ids(cases[i]["prompt"], cases[i]["responses"][0], images[i], system="")  # noqa: E731
    found = {
        "reward read one token earlier": change(lambda i: model.reward(ids(i), images[i], -2)),
        "no system message": change(lambda i: model.reward(bare(i), images[i])),
    }
    effects = {}
    for name, tensor in model.network.named_parameters():
        if name.endswith("k_proj.bias"):
            continue  # softmax does not see it
        kept = tensor.detach().clone()
        tensor.data.fill_(1.0 if "norm" in name and name.endswith("weight") or "lambda" in name else 0.0)
        effects[name] = change(lambda i: model.reward(ids(i), images[i]))
        tensor.data.copy_(kept)
    name = min(effects, key=effects.get)
    return {**{key: round(value, 6) for key, value in found.items()}, f"without {name}": round(effects[name], 6)}


def write_model(model):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for name in ["added_tokens.json", "special_tokens_map.json", "tokenizer.model", "tokenizer_config.json"]:
        shutil.copy(TOKENIZER / name, FOLDER)
    vision = VISION | {
        "architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "hidden_act": "gelu",
        "norm_type": "layer_norm", "image_size": SIDE, "patch_size": 14, "num_channels": 3, "qkv_bias": True,
        "qk_normalization": False,
    }
    text = TEXT | {
        "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "hidden_act": "silu", "bias": False,
        "rope_theta": 1000000, "rope_scaling": SCALING, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    config = {
        "architectures": ["InternVLRewardModel"], "model_type": "internvl_chat", "template": "internvl2_5",
        "downsample_ratio": 0.5, "dynamic_image_size": True, "force_image_size": SIDE, "min_dynamic_patch": 1,
        "max_dynamic_patch": MAX_TILES, "ps_version": "v2", "select_layer": -1, "use_thumbnail": True,
        "torch_dtype": "float32", "llm_config": text, "vision_config": vision,
    }
    (FOLDER / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(model.tensors(), FOLDER / "model.safetensors", metadata={"format": "pt"})


def main():
    torch.set_num_threads(1)
    model = Model()
    golden = list(rows(model))
    for row, internvl3 in zip(golden, json.loads((FAMILIES / "internvl3/golden.json").read_text())["rows"]):
        assert row["images"] == internvl3["images"]
    write_model(model)
    note = "InternVL2.5 over InternLM2.5 in the published layout, template internvl2_5."
    write("internvl2_5", note, golden, "internvl2_5.py", controls=controls(model, golden))


if __name__ == "__main__":
    main()
