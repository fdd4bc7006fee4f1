#!/usr/bin/env python3
"""Golden training of the Qwen-VL families: tests/golden/families/{qwen2_vl,qwen2_5_vl,qwen3_vl}/training.json.

    python3 scripts/golden/qwen_training.py

Needs third_party/peer (`make setup`). transformers' own classes and PyTorch's AdamW train the golden checkpoint for six
steps with both algorithms; everything trains. Tokens and grids are those of golden.json; the resized images must have its
hashes, and the rewards before training must be its rewards. The same files are written again.
"""

import hashlib
import json
import math

from families import FAMILIES  # isort: skip; it adds the packages to the path

import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

MODELS = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}
ROWS = [0, 1, 2, 4, 5, 6]  # those with one image that is no JPEG
STEPS, BATCH, WHITE = 6, 2, 224
SETTINGS = {"learning_rate": 1e-3, "weight_decay": 0.05, "adam_beta2": 0.98, "warmup_ratio": 0.34,
            "lr_scheduler_type": "cosine", "max_grad_norm": 1.0}
TEXT_ONLY = "bias_reward_model."


def renamed(name):
    """A tensor of the checkpoint → the name in transformers' model without a head."""
    name = name.removeprefix("model.")
    return name if name.startswith(("visual.", "language_model.")) else "language_model." + name


def ours(name):
    """The same → the name that seeward-train has for it."""
    for theirs, part in {"visual.merger.": "mlp1.merger.", "visual.deepstack": "mlp1.deepstack", "visual.": "vision_model.",
                         "language_model.": "language_model.model."}.items():
        if name.startswith(theirs):
            return part + name[len(theirs):]
    return name


class Branch:
    """A reward model of the golden weights, and the conversations that it reads."""

    def __init__(self, family, rows, white):
        folder = FAMILIES / family / "model"
        config = transformers.AutoConfig.from_pretrained(folder)
        config._attn_implementation = "eager"
        self.model = getattr(transformers, MODELS[family] + "Model")(config).float().eval()
        weights = load_file(folder / "model.safetensors")
        self.head = torch.nn.Parameter(weights.pop("score.weight").float())
        self.model.load_state_dict({renamed(name): tensor.float() for name, tensor in weights.items()})
        self.image, self.most_pixels = config.image_token_id, most_pixels(folder)
        self.rows = [self.inputs(*row, white) for row in rows]

    def inputs(self, case, golden, white):
        """Patches, grid, and the tokens of both responses."""
        vision = self.model.config.vision_config
        patch, merge = vision.patch_size, vision.spatial_merge_size
        if white:
            side = self.white_side(patch * merge) * merge
            pixels, grid = numpy.full((side * patch, side * patch, 3), 255, numpy.uint8), (side, side)
        else:
            grid = golden["images"][0]["grid"]
            pixels = resized(FAMILIES / case["img_path"], [count * patch for count in grid])
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == golden["images"][0]["rgb_sha256"], case["img_path"]
        tokens = [self.with_image(response["input_ids"], grid[0] * grid[1] // merge**2) for response in golden["responses"][:2]]
        return patches(pixels, vision), torch.tensor([[1, *grid]]), [torch.tensor([ids]) for ids in tokens]

    def white_side(self, token):
        """Tokens of a side of the white image, which has 224 pixels or the most that are allowed."""
        side = round(WHITE / token)
        return side if (side * token) ** 2 <= self.most_pixels else math.floor(math.sqrt(self.most_pixels) / token)

    def with_image(self, ids, count):
        """The tokens with another number of those of the image."""
        first = ids.index(self.image)
        return ids[:first] + [self.image] * count + [id for id in ids[first:] if id != self.image]

    def rewards(self, row):
        """Those of the chosen and the rejected response."""
        pixels, grid, tokens = self.rows[row]
        rewards = []
        for ids in tokens:
            marks = (ids == self.image).int()
            out = self.model(input_ids=ids, pixel_values=pixels, image_grid_thw=grid, mm_token_type_ids=marks, use_cache=False)
            rewards.append(out.last_hidden_state[0, -1] @ self.head[0])
        return torch.stack(rewards)

    def loss(self, row):
        chosen, rejected = self.rewards(row)
        return -torch.nn.functional.logsigmoid(chosen - rejected)

    def parameters(self, scope):
        yield from ((scope + ours(name), tensor) for name, tensor in self.model.named_parameters())
        yield scope + "score.weight", self.head


def most_pixels(folder):
    files = [path for path in (folder / "preprocessor_config.json", folder / "processor_config.json") if path.is_file()]
    settings = json.loads(files[0].read_text())
    settings = settings.get("image_processor", settings)
    return settings.get("max_pixels") or settings["size"]["longest_edge"]


def resized(path, size):
    """The image over white in this height and width."""
    image = Image.open(path)
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(below, image)
    height, width = size
    return numpy.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def patches(pixels, vision):
    """Normalised patches, those of a token one after the other."""
    patch, merge, frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    clip = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    mean, std = (torch.tensor(values) for values in (((0.5,) * 3, (0.5,) * 3) if patch == 16 else clip))
    rows, columns = pixels.shape[0] // patch, pixels.shape[1] // patch
    x = (torch.from_numpy(pixels.copy()) / 255 - mean) / std
    x = x.view(rows // merge, merge, patch, columns // merge, merge, patch, 3).permute(0, 3, 1, 4, 6, 2, 5)
    return x.unsqueeze(5).expand(*x.shape[:5], frames, patch, patch).reshape(rows * columns, -1)


def check(branch, rows, key):
    for index, (_, golden) in enumerate(rows):
        expected = torch.tensor([response[key] for response in golden["responses"][:2]])
        with torch.no_grad():
            assert torch.allclose(branch.rewards(index), expected, rtol=1e-4, atol=1e-4), (key, index)


def rate(step):
    warmup = math.ceil(SETTINGS["warmup_ratio"] * STEPS)
    if step < warmup:
        return SETTINGS["learning_rate"] * step / warmup
    return SETTINGS["learning_rate"] * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))


def total(losses):
    """The published loss: of the main branch alone, or weighted by the text-only branch's failure."""
    if len(losses) == 1:
        return losses[0].mean()
    main, text = losses
    failure = 5e-8 + text.detach() / (1e-7 + text.detach() + main.detach())
    return (failure * main + text).mean()


def train(branches):
    """Loss and gradient norm of each step, and the norms of all tensors after the last."""
    named = [pair for branch, scope in zip(branches, ("", TEXT_ONLY)) for pair in branch.parameters(scope)]
    parameters = [tensor for _, tensor in named]
    decays = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]
    groups = [{"params": some, "weight_decay": decay} for some, decay in zip(decays, (SETTINGS["weight_decay"], 0.0))]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, SETTINGS["adam_beta2"]), eps=1e-8)
    steps = []
    for step in range(STEPS):
        rows = [(step * BATCH + index) % len(ROWS) for index in range(BATCH)]
        loss = total([torch.stack([branch.loss(row) for row in rows]) for branch in branches])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, SETTINGS["max_grad_norm"])
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item()})
    return {"steps": steps, "param_norms_after": {name: tensor.norm().item() for name, tensor in sorted(named)}}


def main():
    torch.set_num_threads(1)
    cases = [json.loads(line) for line in (FAMILIES / "cases.jsonl").read_text().splitlines()]
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, float32, eager attention"
    for family in MODELS:
        golden = json.loads((FAMILIES / family / "golden.json").read_text())["rows"]
        rows = [(cases[index], golden[index]) for index in ROWS]
        runs = {}
        for name, whites in [("standard", [False]), ("shortcut_aware", [False, True])]:
            branches = [Branch(family, rows, white) for white in whites]
            for branch, key in zip(branches, ("reward", "reward_text_only")):
                check(branch, rows, key)
            runs[name] = train(branches)
        head = {"made_by": f"scripts/golden/qwen_training.py: {versions}", "rows": ROWS, "batch": BATCH, "settings": SETTINGS}
        (FAMILIES / family / "training.json").write_text(json.dumps(head | runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
