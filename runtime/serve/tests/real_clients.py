"""Clients that others wrote, unmodified, ask a running service about one row; prints the rewards that each got as JSON.

python3 real_clients.py third_party runtime/serve/clients IMAGE URL URL_WITH_KEY, where the key is `secret`. What the trainers'
files import and do not call here is replaced by empty classes.
"""

import ast
import asyncio
import http.server
import importlib
import inspect
import json
import logging
import os
import sys
import threading
import types
import typing
import urllib.request
from pathlib import Path

THIRD_PARTY, OURS, IMAGE, URL, URL_WITH_KEY = sys.argv[1:]
os.environ["SEEWARD_URL"] = URL
TRAINERS = Path(THIRD_PARTY, "trainers")
# numpy is among the packages of the ONNX checker.
sys.path[:0] = [str(Path(THIRD_PARTY, "clients")), str(Path(THIRD_PARTY, "python")), OURS]

import huggingface_hub
import numpy
import openai
import PIL.Image
import seeward_reward

QUESTION, ANSWER = "what color?", {"role": "assistant", "content": "Red."}
DATA_URL = "data:image/png;base64," + seeward_reward.base64.b64encode(Path(IMAGE).read_bytes()).decode()
PARTS = [{"type": "image_url", "image_url": {"url": DATA_URL}}, {"type": "text", "text": QUESTION}]
CHAT = [{"role": "user", "content": PARTS}, ANSWER]
TAGGED = [{"role": "user", "content": "<image>\n" + QUESTION}, ANSWER]


class StandIn(types.ModuleType):
    """A module or package whose every name is an empty class, but for those that it is given."""

    def __init__(self, name, **names):
        super().__init__(name)
        self.__dict__.update(names)
        self.__path__ = [str(TRAINERS.joinpath(*name.split(".")))]

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in(*names, **given):
    for name in names:
        sys.modules[name] = StandIn(name, **given)


class Reluctant(http.server.BaseHTTPRequestHandler):
    """Forwards to the service, but answers the first of every two requests as a busy service does."""

    seen = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Reluctant.seen += 1
        if Reluctant.seen % 2:
            self.answer(503, b'{"error": {"message": "too many requests are waiting"}}', [("retry-after", "1")])
            return
        request = urllib.request.Request(URL + self.path, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            self.answer(reply.status, reply.read(), [])

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def openai_client(url, **options):
    return openai.OpenAI(base_url=url + "/v1", **{"api_key": "secret", **options})


def content(completion):
    return float(completion.choices[0].message.content)


def of_openai(busy):
    keyed = openai_client(URL_WITH_KEY)
    model = keyed.models.list().data[0].id
    retrying = openai_client(busy, max_retries=1)
    clients = [keyed, openai_client(URL), retrying]
    return [content(client.chat.completions.create(model=model, messages=CHAT)) for client in clients]


def errors_of_openai():
    return [raised(openai_client(URL_WITH_KEY, api_key="wrong"), CHAT), raised(openai_client(URL), CHAT[:1])]


def raised(client, messages):
    try:
        client.chat.completions.create(model="m", messages=messages)
    except openai.APIStatusError as error:
        return type(error).__name__
    return "nothing"


def of_hugging_face():
    client = huggingface_hub.InferenceClient(base_url=URL_WITH_KEY + "/v1", api_key="secret")
    return [content(client.chat_completion(messages=CHAT))]


class Characters:
    """OpenRLHF's tokenizer and engine: a token is a character, and the engine says the answer."""

    def __call__(self, text, **_):
        return {"input_ids": numpy.array([[ord(letter) for letter in text]])}

    def decode(self, tokens, **_):
        return "".join(map(chr, tokens))

    async def generate(self, *_, **__):
        text = ANSWER["content"] + "<|im_end|>"
        output = types.SimpleNamespace(token_ids=[ord(letter) for letter in text], text=text, finish_reason="stop", logprobs=None)
        return types.SimpleNamespace(outputs=[output])


def of_openrlhf(busy):
    stand_in("openrlhf", "openrlhf.utils")
    stand_in("openrlhf.utils.logging_utils", init_logger=logging.getLogger)
    executor = importlib.import_module("openrlhf.utils.agent").SingleTurnAgentExecutor
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    prompt = f"<|im_start|>user\n{image}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    sampling = types.SimpleNamespace(max_tokens=64, logprobs=None)

    async def rewards():
        asked = [executor(url + "/get_reward").execute(prompt, Path(IMAGE).name, sampling, 4096, Characters(), Characters())
                 for url in (URL, busy)]
        return [output["reward"][0] for output in await asyncio.gather(*asked)]

    return asyncio.run(rewards())


def of_swift():
    stand_in("swift", "swift.infer_engine", "swift.model", "swift.metrics")
    stand_in("swift.template", Messages=typing.List[typing.Dict[str, typing.Any]], Tool=typing.Dict[str, typing.Any])
    media = types.SimpleNamespace(check=lambda path: path)
    stand_in("swift.utils", get_logger=logging.getLogger, SafeMediaPath=media)
    stand_in("requests")
    stand_in("requests.exceptions", HTTPError=OSError)
    client = importlib.import_module("swift.infer_engine.infer_client").InferClient(base_url=URL_WITH_KEY + "/v1", api_key="secret")
    request = importlib.import_module("swift.infer_engine.protocol").InferRequest
    part = lambda image: [{"role": "user", "content": [image, PARTS[1]]}, ANSWER]
    requests = [
        request(TAGGED, images=[IMAGE]),
        request(TAGGED, images=[PIL.Image.open(IMAGE)]),
        request(TAGGED, images=[{"bytes": Path(IMAGE).read_bytes(), "path": None}]),
        request(part({"type": "image", "image": IMAGE})),
        request(part({"type": "image_url", "image_url": {"url": IMAGE}})),
    ]
    return [content(asyncio.run(client.infer_async(one))) for one in requests]


def verl():
    stand_in("ray", "ray.actor", "omegaconf", "tensordict", "torch", "transformers", "verl", "verl.experimental", "verl.protocol",
             "verl.experimental.reward_loop", "verl.experimental.reward_loop.reward_model", "verl.single_controller",
             "verl.single_controller.ray", "verl.single_controller.ray.base", "verl.trainer", "verl.trainer.ppo",
             "verl.trainer.ppo.reward", "verl.utils", "verl.utils.fs", "verl.utils.reward_score")
    stand_in("verl.utils.ray_utils", get_event_loop=asyncio.get_running_loop)
    stand_in("verl.experimental.reward_loop.reward_manager", register=lambda name: lambda manager: manager)
    loop = importlib.import_module("verl.experimental.reward_loop.reward_loop")
    manager = importlib.import_module("verl.experimental.reward_loop.reward_manager.naive")
    return loop.RewardLoopWorker, manager.NaiveRewardManager


class Sample(list):
    """A batch of one sample, as far as verl's reward manager looks."""

    def __getitem__(self, index):
        return self if isinstance(index, slice) else super().__getitem__(index)


def of_verl(busy):
    worker_class, manager_class = verl()
    worker = worker_class.__new__(worker_class)
    payload = {"model": "m", "messages": CHAT, "use_activation": False}
    ids = numpy.array([ord(letter) for letter in ANSWER["content"]])
    sample = types.SimpleNamespace(
        batch={"responses": ids, "attention_mask": numpy.ones(len(ids), int)},
        non_tensor_batch={"data_source": "d", "reward_model": {"ground_truth": "red"},
                          "extra_info": {"messages": TAGGED[:1], "images": [IMAGE]}})

    async def rewards():
        # Its own retries: a 503 is tried again, a 422 is not.
        worker.reward_router_address = busy.removeprefix("http://")
        posted = await worker._post_request(payload, "classify")
        worker.reward_router_address = URL.removeprefix("http://")
        try:
            await worker._post_request({"input": "text"}, "classify", max_retries=1)
            status = 200
        except importlib.import_module("aiohttp").ClientResponseError as error:
            status = error.status
        manager = manager_class(None, Characters(), seeward_reward.verl)
        scored = await manager.run_single(Sample([sample]))
        return [posted["data"][-1]["probs"][-1], scored["reward_score"]], status

    return asyncio.run(rewards())


SIGNATURES = [
    ("trl/trainer/grpo_trainer.py", "reward_func", seeward_reward.trl),
    ("swift/rl_core/grpo_algorithm.py", "reward_func", seeward_reward.Swift()),
    ("areal/workflow/vision_rlvr.py", "async_reward_fn", seeward_reward.areal),
    ("areal/workflow/rlvr.py", "async_reward_fn", seeward_reward.areal),
    ("verl/experimental/reward_loop/reward_manager/naive.py", "compute_score", seeward_reward.verl),
    ("swift/rlhf_trainers/utils.py", "orms[reward_func]", seeward_reward.Swift),
]


def calls(path, name):
    """How a trainer's file calls a function: the number of positional arguments, and keywords, None for `**columns`."""
    tree = ast.parse(TRAINERS.joinpath(path).read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [node for node in found if ast.unparse(node.func).removeprefix("self.") == name]
    shapes = [(len(node.args), [word.arg for word in node.keywords]) for node in found]
    # A model is called with nothing but its inputs.
    return [shape for shape in shapes if shape != (0, [None])]


def check_signatures():
    """Binds what each trainer passes to our functions, with a column more where columns come; the number of calls."""
    count = 0
    for path, name, function in SIGNATURES:
        for positional, keywords in calls(path, name):
            named = {word or "another_column": None for word in keywords}
            inspect.signature(function).bind(*[None] * positional, **named)
            count += 1
    return count


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reluctant)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    busy = f"http://127.0.0.1:{server.server_port}"
    verl_rewards, verl_status = of_verl(busy)
    rewards = {"openai": of_openai(busy), "huggingface_hub": of_hugging_face(), "openrlhf": of_openrlhf(busy),
               "ms-swift": of_swift(), "verl": verl_rewards}
    print(json.dumps({"rewards": rewards, "openai_errors": errors_of_openai(), "verl_status": verl_status,
                      "busy": Reluctant.seen, "signatures": check_signatures()}))


main()
