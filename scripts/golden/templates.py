#!/usr/bin/env python3
"""What published chat templates print: tests/golden/conversations/chat_templates.json.

    python3 scripts/golden/templates.py FOLDER

FOLDER has the published Jinja texts, which are not part of this repository:

    qwen3, qwen3_instruct_2507, qwen2_5, qwen2_5_vl, qwen3_vl, llama3, llama3_1
                        .jinja in trl/chat_templates of the wheel trl 1.16.0
    internvl_hf.jinja   `chat_template` of convert_internvl_weights_to_hf.py (transformers 4.57, its repository), which has
                        <IMG_CONTEXT> for an image, as the published folders have it
    chatml.jinja        the template of ChatML tokenizers without a default system message

transformers (third_party/peer, `make setup`) prints the conversations. Texts with a newline within quotes are also
published with the two characters \\n in its place, which print the same: both hashes are written.
"""

import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "third_party/peer"))

import tokenizers  # noqa: E402
import transformers  # noqa: E402

GOLDEN = ROOT / "tests/golden"
TEXT, IMAGES = "families/llama_text/model", "families/internvl3_5_hf/model"
QWEN2_VL, QWEN3_VL = "families/qwen2_5_vl/model", "families/qwen3_vl/model"
# text: template, tokenizer
SOURCES = {
    "qwen3": ("qwen3", TEXT), "qwen3_instruct_2507": ("chatml", TEXT), "qwen2_5": ("qwen2.5", TEXT),
    "llama3": ("llama3", TEXT), "llama3_1": ("llama3.1", TEXT), "chatml": ("chatml", TEXT),
    "internvl_hf": ("internvl-hf", IMAGES), "qwen2_5_vl": ("qwen2-vl", QWEN2_VL), "qwen3_vl": ("qwen3-vl", QWEN3_VL),
}
SYSTEM = "Answer in one word.\nBe kind: 请 :)"
TOOL = "<tool_response>\n7\n</tool_response>"
# (system message or None, turns)
CASES = [
    (SYSTEM, ["What is this?", "A circle."]),
    (None, ["What is this?", "A circle.", "And its colour?", "Blue, I think."]),
    (SYSTEM, ["What is this?", "A circle.", "Its colour?", "蓝色。", "Sure?\n", "Yes!"]),
    (None, ["Hello.", "", "What?", ""]),
    (SYSTEM, ["  What is this? \n", "\n A circle.  ", " Its colour?", "\n\n  Blue. \n"]),
    (None, ["What is this?", "<think>\n\nRound.\n\n</think>\n\nA circle.\n"]),
    (None, ["Why?", "<think>\nHm.\n</think>\n\nSo.", "And?", "Lost <think>a</think>b</think>\nThen."]),
    (None, ["Why?", "No end: <think>\nHm.", "And?", "No start.</think>"]),
    (None, ["How many?", "<think>\nI count.\n</think>\n\nWait.", TOOL, "Wait again.", TOOL, "Seven."]),
    (None, [TOOL, "<think>\nHm.\n</think>\n\nSo.", TOOL, "<think>\nHm.\n</think>\n\nSeven."]),
]


def case(tokenizer, system, turns):
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages += [{"role": ["user", "assistant"][index % 2], "content": text} for index, text in enumerate(turns)]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return {"system": system, "turns": turns, "tiles": [], "text": text, "ids": ids}


def golden(folder, name):
    template, tokenizer = SOURCES[name]
    text = (folder / f"{name}.jinja").read_text(encoding="utf-8").strip()
    file = tokenizers.Tokenizer.from_file(str(GOLDEN / tokenizer / "tokenizer.json"))
    known = {"bos_token": "<|begin_of_text|>", "chat_template": text}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=file, **known)
    cases = [case(fast, *one) for one in CASES]
    escaped = text.replace("\n", "\\n")
    texts = [text, escaped] if "\n'" in text and "\n{" not in text else [text]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    per_tile = 4 * (tokenizer != TEXT)
    return {
        "source": name, "sha256": hashes, "template": template, "tokenizer": tokenizer, "tokens_per_tile": per_tile,
        "cases": cases,
    }


lines = [json.dumps(golden(Path(sys.argv[1]), name), ensure_ascii=False) for name in SOURCES]
path = GOLDEN / "conversations/chat_templates.json"
path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
