"""Reward functions for trainers that call Python, over a running seeward-serve or over a bundle in the trainer's process.

For the service copy this file; it needs the standard library only. For a bundle install the package `seeward`, which has
these functions as `seeward.trl`, `seeward.verl`, `seeward.openrlhf` and `seeward.swift`.

    SEEWARD_URL      the service, http://localhost:8080 if not set
    SEEWARD_API_KEY  its key, if it asks for one
    SEEWARD_TIMEOUT  seconds for a call, 600 if not set
    SEEWARD_BUNDLE   the folder of a bundle, in place of a service

TRL       GRPOTrainer(reward_funcs=seeward_reward.RewardFunction(url="http://HOST:8080"), ...), or bundle="bundles/mine"
OpenRLHF  --reward.remote_url with the path of this file
ms-swift  --external_plugins with: orms["seeward"] = seeward_reward.Swift; then --reward_funcs seeward
AReaL     reward_fn="seeward_reward.areal"
verl      custom_reward_function.path=seeward_reward.py custom_reward_function.name=compute_score

An image is a path that this process can read, bytes, a PIL image, a data URL, or an object with "path" or "bytes". A
request that cannot be scored raises RuntimeError: training with a made-up reward would be worse. RewardFunction gives None
for it instead, which TRL leaves to the other reward functions of the row.
"""

import asyncio
import base64
import functools
import io
import json
import os
import time
import urllib.error
import urllib.request
import warnings


class Service:
    """Rewards of a running seeward-serve."""

    def __init__(self, url=None):
        self.url = url

    def results(self, rows):
        """For each row {"rewards": [...]} or {"error": {"message": ...}}."""
        requests = [{**row, "images": [_encoded(image) for image in row["images"]]} for row in rows]
        return _post("/v1/rewards", {"requests": requests}, self.url)["results"]


class Bundle:
    """Rewards of a bundle that this process loads. Options are those of `seeward.RewardModel`."""

    def __init__(self, bundle, **options):
        import seeward

        self.model = seeward.RewardModel(bundle, **options)

    def results(self, rows):
        """As the service's."""
        pairs = [(_asked(row), response, row["images"]) for row in rows for response in row["responses"]]
        rewards = iter(self.model.score_pairs(*map(list, zip(*pairs)))) if pairs else iter(())
        return [_result([next(rewards) for _ in row["responses"]]) for row in rows]


@functools.cache
def source(url=None, bundle=None):
    """Where rewards come from: the service at `url`, the bundle, or what the environment names. One for each, which is kept."""
    if url is not None and bundle is not None:
        raise ValueError("expected url or bundle, got both")
    bundle = bundle or (None if url else os.environ.get("SEEWARD_BUNDLE"))
    return Bundle(bundle) if bundle else Service(url)


def score(rows, url=None, bundle=None):
    """The rewards of rows {"prompt" or "messages", "images", "responses"}: a list of floats for each."""
    return _checked(source(url, bundle).results([_row(row) for row in rows]))


class RewardFunction:
    """TRL's reward function, over a bundle or the service at a URL: prompts and completions as text or as messages, images
    from the columns image or images. Options are those of `seeward.RewardModel`.

    The reward of a completion that cannot be scored is None; the metric seeward/failed counts them.
    """

    __name__ = "seeward"

    def __init__(self, bundle=None, *, url=None, **options):
        if options and bundle is None:
            raise ValueError(f"{', '.join(options)}: expected options with a bundle alone")
        self.source = Bundle(bundle, **options) if options else source(url, bundle)

    def __call__(self, prompts, completions, log_metric=None, **columns):
        results = self.source.results(_rows(prompts, completions, columns))
        problems = [result["error"]["message"] for result in results if "error" in result]
        if problems:
            warnings.warn(f"{len(problems)} of {len(results)} completions have no reward: {problems[0]}", stacklevel=2)
        if log_metric is not None:
            log_metric("seeward/failed", float(len(problems)))
        return [None if "error" in result else result["rewards"][0] for result in results]


def trl(prompts, completions, **columns):
    """TRL's reward function, which raises where RewardFunction gives None."""
    return [rewards[0] for rewards in _checked(source().results(_rows(prompts, completions, columns)))]


class Swift:
    """ms-swift's outcome reward model: the messages without their last one, which is the completion."""

    def __init__(self, args=None, *, url=None, bundle=None, **kwargs):
        self.args = args
        self.source = source(url, bundle)

    def __call__(self, completions, messages=None, **columns):
        if messages is None:
            raise RuntimeError("expected the column messages, got none")
        rows = _rows([_open(turns) for turns in messages], completions, columns)
        return [rewards[0] for rewards in _checked(self.source.results(rows))]


def areal(prompt, completions, prompt_ids=None, completion_ids=None, messages=None, images=None, **columns):
    """AReaL's reward function: one completion. The messages of the row, else its templated prompt as text, are asked."""
    asked = {"messages": _open(_messages(messages))} if messages else {"prompt": prompt}
    return score([{**asked, "images": images or [], "responses": [completions]}])[0][0]


def verl(data_source, solution_str, ground_truth, extra_info=None, url=None, bundle=None, **kwargs):
    """verl's compute_score: prompt or messages, and images, from extra_info."""
    return score([_of_extra_info(extra_info, solution_str)], url, bundle)[0][0]


async def compute_score(data_source, solution_str, ground_truth, extra_info=None, url=None, bundle=None, **kwargs):
    """verl's compute_score without waiting in its loop: samples of one moment share the batches of a bundle. Arguments come
    from custom_reward_function.reward_kwargs."""
    row = _of_extra_info(extra_info, solution_str)
    found = await asyncio.to_thread(source, url, bundle)
    if isinstance(found, Service):
        return (await asyncio.to_thread(score, [row], url, bundle))[0][0]
    return (await _batcher(found).score(_asked(row), row["responses"], _row(row)["images"])).rewards[0]


def reward_func(queries, prompts, labels, url=None, bundle=None, **kwargs):
    """OpenRLHF's reward function: rewards, scores and extra_logs, as tensors where PyTorch is installed.

    The service takes the text out of the policy's template. A bundle reads prompt or messages, and images, of each label,
    an object or its JSON.
    """
    found = source(url, bundle)
    if isinstance(found, Service):
        body = {"query": list(queries), "prompts": list(prompts), "labels": list(labels)}
        reply = _post("/get_reward", body, found.url)
    else:
        rows = [_of_label(label, query, prompt) for label, query, prompt in zip(labels, queries, prompts)]
        rewards = [rewards[0] for rewards in _checked(found.results(rows))]
        reply = {"rewards": rewards, "scores": rewards, "extra_logs": {}}
    logs = {name: _tensor(values) for name, values in reply["extra_logs"].items()}
    return {"rewards": _tensor(reply["rewards"]), "scores": _tensor(reply["scores"]), "extra_logs": logs}


@functools.cache
def _batcher(bundle):
    import seeward

    return seeward.Batcher(bundle.model)


def _tensor(values):
    try:
        import torch
    except ImportError:
        return values
    return torch.tensor(values, dtype=torch.float32)


def _checked(results):
    for index, result in enumerate(results):
        if "error" in result:
            raise RuntimeError(f"row {index}: {result['error']['message']}")
    return [result["rewards"] for result in results]


def _result(rewards):
    errors = [reward for reward in rewards if isinstance(reward, Exception)]
    return {"error": {"message": str(errors[0])}} if errors else {"rewards": rewards}


def _rows(prompts, completions, columns):
    images = _column(columns, len(completions))
    return [
        _row({**_prompt(prompt), "images": image, "responses": [_text(completion)]})
        for prompt, completion, image in zip(prompts, completions, images)
    ]


def _row(row):
    images = row.get("images") or []
    images = images if isinstance(images, (list, tuple)) else [images]
    return {**row, "images": [_image(image) for image in images]}


def _asked(row):
    return row["messages"] if "messages" in row else row["prompt"]


def _of_extra_info(extra_info, response):
    info = extra_info or {}
    asked = {key: info[key] for key in ("prompt", "messages") if key in info}
    if len(asked) != 1:
        raise RuntimeError("extra_info: expected prompt or messages")
    return {**asked, "images": info.get("images", []), "responses": [response]}


def _of_label(label, query, prompt):
    info = json.loads(label) if isinstance(label, str) and label.startswith("{") else label
    if not isinstance(info, dict) or not {"prompt", "messages"} & info.keys():
        raise RuntimeError("labels: expected objects with prompt or messages; templated prompts need a service")
    if not query.startswith(prompt):
        raise RuntimeError("queries: expected them to start with their prompts")
    return _row({**info, "responses": [query[len(prompt) :]]})


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
        return image.get("bytes") or image.get("path") or image.get("url")
    return image


def _encoded(image):
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


def _post(path, body, url=None):
    """The reply. Waits and tries again while the service is loading, shutting down or not there, until the timeout."""
    url = (url or os.environ.get("SEEWARD_URL", "http://localhost:8080")).rstrip("/") + path
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
