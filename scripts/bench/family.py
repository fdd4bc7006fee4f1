"""The two forms of images in the benchmark of scoring: square tiles (InternVL), and whole images as grids (Qwen-VL)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIDE = 448  # of a tile, or of a whole image


def of(config):
    """The family of a config.json."""
    return InternVL if "llm_config" in config else QwenVL


def decoder(text, layers, prefix, own, responses):
    """Multiplications of the language model for responses of `own` tokens after a shared prefix, without masked products."""
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    keys = text.get("head_dim", hidden // heads) * text["num_key_value_heads"]
    attending, rest = hidden**2 + 2 * hidden * keys, hidden**2 + 3 * hidden * text["intermediate_size"]
    tokens, pairs = prefix + responses * own, prefix**2 / 2 + responses * own * (prefix + own / 2)
    # The last layer is computed only where a reward is read.
    return layers * (tokens * attending + 2 * hidden * pairs) + ((layers - 1) * tokens + responses) * rest


class InternVL:
    """Images of seven tiles."""

    TILES, TOKENS, OPENVINO = 7, 256, True
    TOKENIZER = ROOT / "tests/golden/models/qwen2"
    SYSTEM = ("你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
              "是一个有用无害的人工智能助手。")
    END = "<|im_end|>"

    @staticmethod
    def shrunk(config, layers):
        """Without a thumbnail, so that an image of 7 × 1 tiles is 7 tiles and both sides see the same pixels without a resize."""
        config["use_thumbnail"] = False
        config["vision_config"]["num_hidden_layers"] = config["llm_config"]["num_hidden_layers"] = layers

    @classmethod
    def prompt(cls, question, tiles):
        """The template up to the response."""
        image = "<img>" + "<IMG_CONTEXT>" * (tiles * cls.TOKENS) + "</img>"
        return (f"<|im_start|>system\n{cls.SYSTEM}<|im_end|><|im_start|>user\n{image}\n{question}<|im_end|>"
                "<|im_start|>assistant\n")

    @classmethod
    def operations(cls, config, layers, question, own, responses):
        """Floating-point operations of the linear layers and of attention for a row, without masked products."""
        vision, text = config["vision_config"], config["llm_config"]
        width, ffn, patches = vision["hidden_size"], vision["intermediate_size"], (SIDE // vision["patch_size"]) ** 2
        tile = layers * (patches + 1) * (4 * width**2 + 2 * width * ffn + 2 * (patches + 1) * width)
        tile += patches // 4 * text["hidden_size"] * (4 * width + text["hidden_size"])
        prefix = cls.TILES * cls.TOKENS + question
        return {"vision": 2 * cls.TILES * tile, "LLM": 2 * decoder(text, layers, prefix, own, responses)}


class QwenVL:
    """Whole images of 32 × 32 patches, which are not resized; three of four layers of the encoder attend within windows."""

    TILES, TOKENS, OPENVINO = 1, 256, False
    TOKENIZER = ROOT / "tests/golden/families/qwen2_5_vl/model"
    SYSTEM = "You are a helpful assistant."
    END = "<|im_end|>\n"
    WINDOW = 64  # patches

    @staticmethod
    def shrunk(config, layers):
        """With full attention in every eighth layer, as published, or in the last of fewer."""
        config |= {"template": "qwen2-vl", "min_pixels": 56**2, "max_pixels": SIDE**2}
        config["num_hidden_layers"] = config["vision_config"]["depth"] = layers
        full = config["vision_config"]["fullatt_block_indexes"]
        config["vision_config"]["fullatt_block_indexes"] = [index for index in full if index < layers] or [layers - 1]

    @classmethod
    def prompt(cls, question, tiles):
        """The template up to the response."""
        image = "<|vision_start|>" + "<|image_pad|>" * (tiles * cls.TOKENS) + "<|vision_end|>"
        return (f"<|im_start|>system\n{cls.SYSTEM}<|im_end|>\n<|im_start|>user\n{image}{question}<|im_end|>\n"
                "<|im_start|>assistant\n")

    @classmethod
    def operations(cls, config, layers, question, own, responses):
        """Floating-point operations of the linear layers and of attention for a row, without masked products."""
        vision = config["vision_config"]
        width, ffn, patches = vision["hidden_size"], vision["intermediate_size"], (SIDE // vision["patch_size"]) ** 2
        full = len(vision["fullatt_block_indexes"])
        seen = full * patches + (layers - full) * cls.WINDOW
        image = patches * (layers * (4 * width**2 + 3 * width * ffn) + 2 * seen * width)
        image += patches // 4 * 4 * width * (4 * width + config["hidden_size"])
        return {"vision": 2 * image, "LLM": 2 * decoder(config, layers, cls.TOKENS + question, own, responses)}
