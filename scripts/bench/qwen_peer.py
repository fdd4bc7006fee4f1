"""Loads a Seeward checkpoint into Hugging Face transformers' own Qwen2.5-VL classes, for the benchmark of scoring."""

import peer  # isort: skip; it adds the packages to the path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

IMAGE_TOKEN = "<|image_pad|>"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PATCH, MERGE, FRAMES = 14, 2, 2
PARTS = {"vision_model.": "visual.", "mlp1.": "visual.", "language_model.model.": "language_model."}


def load(checkpoint, dtype):
    """The model without a head over the vocabulary, in eval mode, and the score head's weight [1, width]."""
    weights = load_file(checkpoint / "model.safetensors")
    head = weights.pop("score.weight")
    config = Qwen2_5_VLConfig.from_pretrained(checkpoint)
    config.image_token_id = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).token_to_id(IMAGE_TOKEN)
    with torch.device("meta"):
        model = Qwen2_5_VLModel(config)
    state = {renamed(name): tensor.to(dtype) for name, tensor in weights.items()}
    model.load_state_dict(state, assign=True)  # strict: every weight of either side has its counterpart
    # Rotary frequencies are in no checkpoint: they are computed again, on the CPU.
    for part in (model.visual, model.language_model):
        name = next(name for name, _ in part.named_children() if "rotary" in name)
        setattr(part, name, type(getattr(part, name))(config=part.config))
    return model.eval(), head


def renamed(name):
    ours, theirs = next(pair for pair in PARTS.items() if name.startswith(pair[0]))
    return theirs + name[len(ours):]


def patches(image):
    """An image of bytes [height, width, 3] → normalised patches [patches, 3·frames·patch²], those of a token one after the
    other, and their grid [1, 3]: frames, rows, columns."""
    constant = lambda values: torch.tensor(values)
    pixels = (image / 255 - constant(MEAN)) / constant(STD)
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
    cut = pixels.view(rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
    cut = cut.permute(0, 3, 1, 4, 6, 2, 5)
    frames = cut.unsqueeze(5).expand(*cut.shape[:5], FRAMES, PATCH, PATCH)
    return frames.reshape(rows * columns, -1), torch.tensor([[1, rows, columns]])
