"""Writes golden.json: conversations in every template, as the published code builds and tokenises them.

    pip install transformers==4.44.2 sentencepiece==0.2.0 protobuf && python make.py

The rules are those of InternVL's `conversation.py` (`Conversation.get_prompt`) and of `preprocess_internvl2_5` in its
`dataset.py`, which has the separators and reads a system message; ids are those of the slow Python tokenizers.
The chat templates of InternVL and Qwen's vision-language models in transformers are restated from their Jinja texts, with the
tokens of images that their processors write: an empty message has its end. For the chat templates of text models there is
scripts/golden/templates.py.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

GOLDEN = Path(__file__).parent.parent
HERMES = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
INTERNVL2_5 = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
CHATML = ("<|im_start|>system\n{}", ("<|im_start|>user\n", "<|im_start|>assistant\n"))
# template: (system template, roles), system message, the separators after user and assistant, that after the system
# message, between role and message, whether messages are stripped (`preprocess_internlm`)
TEMPLATES = {
    "Hermes-2": (CHATML, HERMES, ["<|im_end|>"] * 2, "<|im_end|>", "", False),
    "internlm2-chat": (CHATML, HERMES, ["<|im_end|>"] * 2, "<|im_end|>", "", True),
    "phi3-chat": (("<|system|>\n{}", ("<|user|>\n", "<|assistant|>\n")), HERMES, ["<|end|>"] * 2, "<|end|>", "", False),
    "internvl_zh": (("{}", ("<human>:", "<bot>:")), "", [" ", "</s>"], " ", " ", False),
    "internvl2_5": (CHATML, INTERNVL2_5, ["<|im_end|>\n"] * 2, "<|im_end|>\n", "", False),
}
INTERNVL = ("<img>", "<IMG_CONTEXT>", "</img>")
QWEN_VL = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
# template: system message or None, the tokens of images
CHAT_TEMPLATES = {
    "internvl-hf": (None, INTERNVL),
    "qwen2-vl": ("You are a helpful assistant.", QWEN_VL),
    "qwen3-vl": (None, QWEN_VL),
}
SETS = [
    ("Hermes-2", "models/qwen2", Qwen2Tokenizer),
    ("Hermes-2", "models/llama", LlamaTokenizer),
    ("internlm2-chat", "models/qwen2", Qwen2Tokenizer),
    ("phi3-chat", "models/phi3", LlamaTokenizer),
    ("internvl_zh", "tokenize/tokenizers/llama_zh", LlamaTokenizer),
    ("internvl2_5", "models/qwen2", Qwen2Tokenizer),
    ("internvl-hf", "models/qwen2", Qwen2Tokenizer),
    ("qwen2-vl", "families/qwen2_vl/model", PreTrainedTokenizerFast),
    ("qwen3-vl", "families/qwen3_vl/model", PreTrainedTokenizerFast),
]
SYSTEM = "Answer in one word.\nBe kind: 请 :)"
# (system message or None, turns, tiles of the images)
CASES = [
    (SYSTEM, ["What is this?", "A circle."], []),
    (None, ["What is this?", "A circle.", "And its colour?", "Blue, I think."], []),
    (SYSTEM, ["<image>\nWhat is this?", "A circle.", "Its colour?", "蓝色。", "Sure?\n", "Yes!"], [2]),
    (SYSTEM, ["<image>\n<image>\nWhich is red?", "The first.", "Now with <image>?", "That one."], [1, 2, 1]),
    (None, ["Hello.", "Show me an <image>.", "Here: <image>\nWhat is it?", "A shape."], [1]),
    (None, ["Hello.", "", "What?", ""], []),
    (SYSTEM, ["  What is this? \n", "\n A circle.  ", " Its colour?", "  Blue. "], []),
]
PER_TILE = 4


def with_images(turns, tiles, tokens):
    """Each tag of the user's messages becomes the tokens of the next image."""
    start, context, end = tokens
    tiles, written = list(tiles), []
    for index, text in enumerate(turns):
        while index % 2 == 0 and "<image>" in text:
            text = text.replace("<image>", start + context * PER_TILE * tiles.pop(0) + end, 1)
        written.append(text)
    assert not tiles
    return written


def chat(system, turns):
    messages = [("system", system)] if system is not None else []
    messages += [(["user", "assistant"][index % 2], text) for index, text in enumerate(turns)]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)


def get_prompt(template, system, turns):
    if template in CHAT_TEMPLATES:
        return chat(CHAT_TEMPLATES[template][0] if system is None else system, turns)
    (system_template, roles), message, separators, system_separator, gap, strips = TEMPLATES[template]
    text = system_template.format(message if system is None else system) + system_separator
    for index, turn in enumerate(turns):
        turn = turn.strip() if strips else turn
        text += roles[index % 2] + (gap + turn + separators[index % 2] if turn else "")
    return text


def opened(tokenizer, folder):
    """The tokenizer of a folder; pinned transformers reads merges as texts only."""
    if tokenizer is not PreTrainedTokenizerFast:
        return tokenizer.from_pretrained(folder)
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = file["model"]["merges"]
    file["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return tokenizer(tokenizer_object=Tokenizer.from_str(json.dumps(file)))


def golden(template, folder, tokenizer):
    tokenizer = opened(tokenizer, GOLDEN / folder)
    _, images = CHAT_TEMPLATES.get(template, (None, INTERNVL))
    cases = []
    for system, turns, tiles in CASES:
        text = get_prompt(template, system, with_images(turns, tiles, images))
        ids = tokenizer(text, add_special_tokens=template not in CHAT_TEMPLATES).input_ids
        cases.append({"system": system, "turns": turns, "tiles": tiles, "text": text, "ids": ids})
    return {"template": template, "tokenizer": folder, "tokens_per_tile": PER_TILE, "cases": cases}


lines = [json.dumps(golden(*one), ensure_ascii=False) for one in SETS]
Path(__file__).with_name("golden.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
