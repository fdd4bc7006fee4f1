"""Reward functions, called as the trainers call them: `grpo_trainer.py` of TRL 1.16, `grpo_algorithm.py` of ms-swift 4.6,
`naive.py` of verl 0.9, `remote_rm_utils.py` of OpenRLHF. The service's side is in `runtime/serve/tests/clients.rs`."""

import asyncio
import inspect
import json

import pytest
from conftest import BUNDLE, IMAGE, QUESTION
from PIL import Image

from seeward import openrlhf, reward_functions, swift, trl, verl

ASKED = [{"role": "user", "content": "<image>\n" + QUESTION}]


@pytest.fixture
def red(model):
    """The reward that all of them give."""
    return model.score(ASKED, ["Red."], IMAGE)[0]


def test_trl_gets_a_reward_for_each_completion(model, red):
    reward = trl.RewardFunction(BUNDLE)
    question = [{"role": "user", "content": [{"type": "image", "image": Image.open(IMAGE)}, {"type": "text", "text": QUESTION}]}]
    answer = [{"role": "assistant", "content": "Red."}]
    metrics = {}
    with pytest.warns(UserWarning, match=r"1 of 4 completions have no reward: image no.png"):
        rewards = reward(
            prompts=[question, ASKED, ASKED, ASKED],
            completions=[answer, answer, answer, [{"role": "assistant", "content": "Blue."}]],
            completion_ids=[[1], [2], [3], [4]],
            image=[Image.open(IMAGE), str(IMAGE), "no.png", str(IMAGE)],
            trainer_state=None,
            log_extra=None,
            log_metric=metrics.__setitem__,
        )
    assert rewards[:3] == [pytest.approx(red, abs=1e-5)] * 2 + [None]
    assert rewards[3] == pytest.approx(model.score(ASKED, ["Blue."], IMAGE)[0], abs=1e-5)
    assert metrics == {"seeward/failed": 1.0}
    assert reward.__name__ == "seeward" and not inspect.iscoroutinefunction(reward.__call__)
    texts = reward(prompts=[QUESTION] * 2, completions=["Red.", "Blue."], completion_ids=[[1], [2]])
    assert texts == pytest.approx(model.score(QUESTION, ["Red.", "Blue."]), abs=1e-5)


def test_options_belong_to_a_bundle():
    assert trl.RewardFunction(BUNDLE, input="text_only").source.model.input_mode == "text_only"
    with pytest.raises(ValueError, match="threads: expected options with a bundle alone"):
        trl.RewardFunction(url="http://localhost:1", threads=1)
    with pytest.raises(ValueError, match="expected url or bundle, got both"):
        trl.RewardFunction(BUNDLE, url="http://localhost:1")


def test_verl_awaits_one_sample_a_call(model, red):
    async def main():
        calls = [
            verl.compute_score(
                data_source="d",
                solution_str=answer,
                ground_truth="red",
                extra_info={"messages": ASKED, "images": [{"path": str(IMAGE), "bytes": None}], "index": 7},
                bundle=str(BUNDLE),
            )
            for answer in ("Red.", "Blue.")
        ]
        return await asyncio.gather(*calls)

    assert inspect.iscoroutinefunction(verl.compute_score)
    blue = model.score(ASKED, ["Blue."], IMAGE)[0]
    assert asyncio.run(main()) == pytest.approx([red, blue], abs=1e-5)
    with pytest.raises(RuntimeError, match="extra_info: expected prompt or messages"):
        asyncio.run(verl.compute_score("d", "Red.", "red", {"index": 7}, bundle=str(BUNDLE)))


def test_the_environment_names_a_bundle(monkeypatch, red):
    monkeypatch.setenv("SEEWARD_BUNDLE", str(BUNDLE))
    reward_functions.source.cache_clear()
    reward = swift.Swift(None)
    answered = [*ASKED, {"role": "assistant", "content": "Red."}]
    images = [[{"bytes": IMAGE.read_bytes(), "path": None}]]
    assert reward(["Red."], messages=[answered], images=images, solution=["red"]) == [pytest.approx(red, abs=1e-5)]
    with pytest.raises(RuntimeError, match="row 0: image no.png"):
        reward(["Red."], messages=[answered], images=[["no.png"]])
    label = json.dumps({"messages": ASKED, "images": [str(IMAGE)]})
    reply = openrlhf.reward_func(["<|im_start|>userRed."], ["<|im_start|>user"], [label])
    assert [float(reward) for reward in reply["rewards"]] == [pytest.approx(red, abs=1e-5)]
    assert reply.keys() == {"rewards", "scores", "extra_logs"}
    with pytest.raises(RuntimeError, match="labels: expected objects with prompt or messages"):
        openrlhf.reward_func(["qa"], ["q"], ["red"])
    reward_functions.source.cache_clear()
