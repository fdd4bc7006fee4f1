"""Reward functions for trainers that call Python, over a running seeward-serve. Copy this file; it needs the standard
library only.

    SEEWARD_URL      the service, http://localhost:8080 if not set
    SEEWARD_API_KEY  its key, if it asks for one
    SEEWARD_TIMEOUT  seconds for a call, 600 if not set

TRL       GRPOTrainer(reward_funcs=seeward_reward.trl, ...)
ms-swift  --external_plugins with: orms["seeward"] = seeward_reward.Swift; then --reward_funcs seeward
AReaL     reward_fn="seeward_reward.areal"
verl      custom_reward_function.path=seeward_reward.py custom_reward_function.name=verl

An image is a path that this process can read, bytes, a PIL image, a data URL, or an object with "path" or "bytes". A
request that cannot be scored raises RuntimeError: training with a made-up reward would be worse.
"""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request


def score(rows):
    """The rewards of rows {"prompt" or "messages", "images", "responses"}: a list of floats for each."""
    results = _post("/v1/rewards", {"requests": [_row(row) for row in rows]})["results"]
    for index, result in enumerate(results):
        if "error" in result:
            raise RuntimeError(f"row {index}: {result['error']['message']}")
    return [result["rewards"] for result in results]


def trl(prompts, completions, **columns):
    """TRL's reward function: prompts and completions as text or as messages, images from the columns image or images."""
    images = _column(columns, len(prompts))
    rows = [
        {**_prompt(prompt), "images": image, "responses": [_text(completion)]}
        for prompt, completion, image in zip(prompts, completions, images)
    ]
    return [rewards[0] for rewards in score(rows)]


class Swift:
    """ms-swift's outcome reward model: the messages without their last one, which is the completion."""

    def __init__(self, args=None, **kwargs):
        self.args = args

    def __call__(self, completions, messages=None, **columns):
        if messages is None:
            raise RuntimeError("expected the column messages, got none")
        images = _column(columns, len(completions))
        rows = [
            {"messages": _open(turns), "images": image, "responses": [completion]}
            for turns, completion, image in zip(messages, completions, images)
        ]
        return [rewards[0] for rewards in score(rows)]


def areal(prompt, completions, prompt_ids=None, completion_ids=None, messages=None, images=None, **columns):
    """AReaL's reward function: one completion. The messages of the row, else its templated prompt as text, are asked."""
    asked = {"messages": _open(_messages(messages))} if messages else {"prompt": prompt}
    return score([{**asked, "images": images or [], "responses": [completions]}])[0][0]


def verl(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """verl's compute_score: prompt or messages, and images, from extra_info."""
    info = extra_info or {}
    asked = {key: info[key] for key in ("prompt", "messages") if key in info}
    if len(asked) != 1:
        raise RuntimeError("extra_info: expected prompt or messages")
    row = {**asked, "images": info.get("images", []), "responses": [solution_str]}
    return score([row])[0][0]


def _row(row):
    images = row.get("images") or []
    images = images if isinstance(images, (list, tuple)) else [images]
    return {**row, "images": [_image(image) for image in images]}


def _prompt(prompt):
    return {"prompt": prompt} if isinstance(prompt, str) else {"messages": _messages(prompt)}


def _messages(messages):
    return json.loads(messages) if isinstance(messages, str) else [_message(m) for m in messages]


def _message(message):
    """Parts without their pixels, which TRL puts into them: the images come with the row."""
    content = message["content"]
    if not isinstance(content, str):
        content = "".join("<image>\n" if part["type"] == "image" else part["text"] for part in content)
    return {"role": message["role"], "content": content}


def _open(messages):
    """The messages that a response continues."""
    return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages


def _text(completion):
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _column(columns, count):
    for name in ("images", "image"):
        if columns.get(name) is not None:
            return columns[name]
    return [None] * count


def _image(image):
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path") or image.get("url")
    if isinstance(image, str) and image.startswith("data:"):
        return image
    if isinstance(image, (str, os.PathLike)):
        with open(os.fspath(image).removeprefix("file://"), "rb") as file:
            image = file.read()
    elif hasattr(image, "save"):
        file = io.BytesIO()
        image.save(file, "PNG")
        image = file.getvalue()
    return {"bytes": base64.b64encode(image).decode()}


def _post(path, body):
    """The reply. Waits and tries again while the service is loading, shutting down or not there, until the timeout."""
    url = os.environ.get("SEEWARD_URL", "http://localhost:8080").rstrip("/") + path
    headers = {"content-type": "application/json"}
    if key := os.environ.get("SEEWARD_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    timeout = float(os.environ.get("SEEWARD_TIMEOUT", "600"))
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    end = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(request, timeout=max(end - time.monotonic(), 0.1)) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            problem, wait = _problem(error), float(error.headers.get("retry-after") or 1)
            if error.code != 503:
                raise RuntimeError(f"{url}: {problem}") from error
        except (urllib.error.URLError, ConnectionError) as error:
            problem, wait = error, 1
        if time.monotonic() + wait > end:
            raise RuntimeError(f"{url}: {problem}")
        time.sleep(wait)


def _problem(error):
    try:
        return f"{error.code} {json.load(error)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return error.code
