"""Loads a Seeward checkpoint into Hugging Face transformers' own InternVL classes, for the benchmarks."""

import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "third_party/peer"))

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers import InternVLConfig, InternVLModel  # noqa: E402

CACHE = "cache"  # the language model's argument for keys and values of earlier tokens
IMAGE_TOKEN = "<IMG_CONTEXT>"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PARTS = {
    "language_model.model.": "language_model.",
    "mlp1.0.": "multi_modal_projector.layer_norm.",
    "mlp1.1.": "multi_modal_projector.linear_1.",
    "mlp1.3.": "multi_modal_projector.linear_2.",
    "vision_model.embeddings.class_embedding": "vision_tower.embeddings.cls_token",
    "vision_model.embeddings.patch_embedding.": "vision_tower.embeddings.patch_embeddings.projection.",
    "vision_model.embeddings.position_embedding": "vision_tower.embeddings.position_embeddings",
    "vision_model.encoder.layers.": "vision_tower.encoder.layer.",
}
LAYER = {"attn.proj.": "attention.projection_layer.", "norm1.": "layernorm_before.", "norm2.": "layernorm_after.",
         ".ls1": ".lambda_1", ".ls2": ".lambda_2"}


def load(checkpoint, dtype):
    """The model without a head over the vocabulary, in eval mode, and the score head's weight [1, width]."""
    weights = load_file(checkpoint / "model.safetensors")
    head = weights.pop("score.weight")
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("language_model.lm_head")}
    with torch.device("meta"):
        model = InternVLModel(config(checkpoint))
    state = {name: tensor.to(dtype) for name, tensor in renamed(weights)}
    model.load_state_dict(state, assign=True)  # strict: every weight of either side has its counterpart
    restore_tables(model)
    return model.eval(), head


def restore_tables(model):
    """Rotary frequencies are in no checkpoint: they are computed again, on the CPU."""
    rotary = model.language_model.rotary_emb
    model.language_model.rotary_emb = type(rotary)(config=model.language_model.config)


def config(checkpoint):
    ours = json.loads((checkpoint / "config.json").read_text())
    keys = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size",
            "layer_norm_eps"]
    vision = {key: ours["vision_config"][key] for key in keys}
    text = {key: value for key, value in ours["llm_config"].items() if key not in ("architectures", "attn_implementation")}
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    return InternVLConfig(vision_config={**vision, "attention_bias": True}, text_config=text,
                          image_token_id=tokenizer.token_to_id(IMAGE_TOKEN), downsample_ratio=ours["downsample_ratio"])


def renamed(weights):
    """The tensors by transformers' names; queries, keys and values are separate there."""
    for name, tensor in weights.items():
        for ours, theirs in PARTS.items():
            if name.startswith(ours):
                name = theirs + name[len(ours):]
        if name.startswith("vision_tower.encoder."):
            for ours, theirs in LAYER.items():
                name = name.replace(ours, theirs)
        if "attn.qkv." in name:
            for part, values in zip("qkv", tensor.chunk(3)):
                yield name.replace("attn.qkv.", f"attention.{part}_proj."), values
        else:
            yield name, tensor


def normalized(tiles):
    """Tiles of bytes [tiles, height, width, 3] as the vision encoder takes them: f32 [tiles, 3, height, width]."""
    constant = lambda values: torch.tensor(values).view(3, 1, 1)
    return (tiles.permute(0, 3, 1, 2) / 255 - constant(MEAN)) / constant(STD)


def cache_of(output):
    """The keys and values of a forward pass."""
    return output[CACHE]


def repeated(cache, count):
    """A cache of one row as one of `count` equal rows, copied so that it can be written to."""
    cache = copy.deepcopy(cache)
    cache.batch_repeat_interleave(count)
    return cache
