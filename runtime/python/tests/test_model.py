"""`RewardModel`: rewards, errors, pickling."""

import json
import pickle
import shutil
import threading
import time

import numpy
import pytest
from conftest import BUNDLE, IMAGE, QUESTION

import seeward
from seeward import errors


def test_a_request_has_the_rewards_of_the_batch_and_of_the_pairs(model):
    answers = ["Blue.", "It is a circle, I think."]
    rewards = model.score(QUESTION, answers, IMAGE)
    assert len(set(rewards)) == 2
    (scores,) = model.score_batch([{"prompt": QUESTION, "responses": answers, "images": [IMAGE]}])
    assert scores.rewards == rewards
    assert scores.truncated == [False, False]
    assert scores.tokens > 100 and scores.tiles == 1
    assert model.score_pairs([QUESTION] * 2, answers, [IMAGE] * 2) == rewards


def test_messages_are_conversations(model):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
    ]
    plain = [turns[0], {"role": "user", "content": "<image>\n" + QUESTION}]
    reward = model.score(plain, ["Blue."], IMAGE)
    assert model.score(turns, ["Blue."], IMAGE) == reward
    turns[1]["content"][0]["image"] = IMAGE
    assert model.score(turns, ["Blue."]) == reward
    assert reward != model.score(QUESTION, ["Blue."], IMAGE)
    with pytest.raises(ValueError, match="got both"):
        model.score(turns, ["Blue."], IMAGE)
    with pytest.raises(errors.PromptError, match="role user"):
        model.score([{"role": "assistant", "content": "Yes."}], ["Blue."])


def test_a_bad_request_is_its_own_element(model):
    good = {"prompt": "q", "responses": ["a", "b"]}
    cases = [
        (good, None, None),
        ({**good, "images": "no.png"}, errors.ImageError, "image no.png: No such file"),
        ({**good, "responses": []}, errors.PromptError, "responses: expected at least one"),
        ({**good, "responses": "abc"}, errors.RequestError, "responses: expected a list of texts, got str"),
        ({**good, "prompt": 7}, errors.RequestError, "prompt: expected a text or a list of messages, got int"),
        ({"responses": ["a"]}, errors.RequestError, "prompt: missing"),
        ({**good, "image": IMAGE, "images": IMAGE}, errors.RequestError, "image: expected one of"),
        ({**good, "photo_path": "a.png"}, errors.RequestError, "photo_path: expected the keys prompt"),
        (7, errors.RequestError, "request: expected a dictionary, got int"),
        (good, None, None),
    ]
    results = model.score_batch(case for case, _, _ in cases)
    assert len(results) == len(cases)
    for result, (_, kind, message) in zip(results, cases, strict=True):
        if kind is None:
            assert result.rewards == pytest.approx(model.score("q", ["a", "b"]), abs=1e-5)
        else:
            assert type(result) is kind and str(result).startswith(message), result
    assert results[1].image == "no.png"
    assert isinstance(results[3].__cause__, TypeError)
    with pytest.raises(errors.ImageError):
        model.score_batch((case for case, _, _ in cases), on_error="raise")
    with pytest.raises(ValueError, match="on_error: expected return or raise, got maybe"):
        model.score_batch([], on_error="maybe")


def test_what_is_raised_while_requests_are_read_is_raised(model):
    def requests():
        yield {"prompt": "q", "responses": ["a"]}
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.score_batch(requests())
    assert model.score_batch([]) == []


def test_responses_of_equal_prompts_and_images_are_one_request(model):
    pixels = numpy.zeros((8, 8, 3), numpy.uint8)
    prompts, answers, images = [], [], []
    for number in range(80):
        prompts.append(f"q{number % 5}")
        answers.append(f"answer {number}")
        images.append([None, pixels.copy(), IMAGE][number % 3])
    pairs = model.score_pairs(prompts, answers, images)
    alone = [model.score(*given)[0] for given in zip(prompts, ([a] for a in answers), images, strict=True)]
    assert numpy.allclose(pairs, alone, atol=1e-5)
    with pytest.raises(ValueError):
        model.score_pairs(["q"], ["a", "b"])


def test_a_bad_response_spoils_no_other_of_its_group(model):
    # A response with the end-of-turn token cannot be read; the others of its prompt can.
    bad = "<|im_end|>"
    results = model.score_pairs(["q", "q", "q", "q"], ["a", bad, 3, "c"], None)
    assert [type(result) for result in results[2:]] == [errors.RequestError, float]
    assert results[0] == pytest.approx(model.score("q", ["a"])[0], abs=1e-5)
    assert results[3] == pytest.approx(model.score("q", ["c"])[0], abs=1e-5)
    images = [IMAGE, "no.png", IMAGE, "no.png"]
    results = model.score_pairs(["q"] * 4, ["a", "b", "c", "d"], images)
    assert [isinstance(result, errors.ImageError) for result in results] == [False, True, False, True]


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"device": "gpu"}, ValueError, r"device: expected cpu, cuda\[:N\]"),
        ({"threads": 0}, ValueError, "threads"),
        ({"threads": "two"}, TypeError, "threads: "),
        ({"input": "image"}, ValueError, "input: expected one of full, text_only, image_only, got image"),
        ({"scale": "whitened"}, ValueError, "scale: whitened rewards need the bundle's reward_mean"),
        ({"library": "no/such.so"}, errors.LibraryError, "no/such.so"),
        ({"device": "cuda"}, errors.DeviceError, "device cuda:0"),
        ({"nothing": 1}, TypeError, "nothing"),
    ],
)
def test_options_are_checked(option, error, message):
    with pytest.raises(error, match=message):
        seeward.RewardModel(BUNDLE, **option)


def test_a_broken_bundle_is_an_error_of_the_bundle(tmp_path):
    with pytest.raises(errors.BundleError, match="reward_model.json"):
        seeward.RewardModel(tmp_path)


def test_a_model_is_pickled_as_its_path(model, tmp_path, monkeypatch):
    hidden = seeward.RewardModel(BUNDLE, input="text_only", threads=1)
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(hidden)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.input_mode == "text_only"
    assert again.score("q", ["a"], IMAGE) == hidden.score("q", ["a"], IMAGE) != model.score("q", ["a"], IMAGE)
    error = model.score_batch([{"prompt": "q", "responses": ["a"], "images": "no.png"}])[0]
    same = pickle.loads(pickle.dumps(error))
    assert (str(same), same.image) == (str(error), "no.png")


def test_probes_are_compared_with_training(model, tmp_path):
    with pytest.raises(errors.BundleError, match="no probes"):
        model.check()
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder)
    manifest = json.loads((folder / "reward_model.json").read_text())
    answers = ["a", "It is a long answer, I think."]
    probe = {"prompt": "q", "images": [], "responses": answers, "rewards": model.score("q", answers)}
    manifest["probes"] = [probe]
    (folder / "reward_model.json").write_text(json.dumps(manifest))
    check = seeward.RewardModel(folder).check()
    assert (check.as_trained, check.largest) == (True, 0.0), check
    assert check.rewards == [(probe["rewards"], probe["rewards"])]
    manifest["probes"][0]["rewards"][0] += 1.0
    (folder / "reward_model.json").write_text(json.dumps(manifest))
    assert seeward.RewardModel(folder).check().as_trained is False


def test_others_run_while_a_model_scores(model):
    ticks, over = 0, threading.Event()

    def tick():
        nonlocal ticks
        while not over.wait(0.001):
            ticks += 1

    other = threading.Thread(target=tick)
    other.start()
    start = time.monotonic()
    requests = [{"prompt": f"{number} " * 300, "responses": ["a"]} for number in range(64)]
    assert all(isinstance(scores, seeward.Scores) for scores in model.score_batch(requests))
    took = time.monotonic() - start
    over.set()
    other.join()
    assert ticks > 20 * took, (ticks, took)


def test_what_a_notebook_shows(model):
    assert repr(model) == f"RewardModel({str(BUNDLE)!r}, device='cpu', precision='fp32')"
    shown = model._repr_html_()
    assert "<th>precision</th><td>fp32</td>" in shown and "4096 tokens" in shown
    scores = seeward.Scores([0.25, -1.0], [False, True], 7, 0)
    assert repr(scores) == "Scores([0.2500, -1.0000], truncated=[False, True])"
    assert "<td>-1.0000</td><td>cut</td>" in scores._repr_html_()
    assert numpy.asarray(scores).dtype == numpy.float32
    assert model.manifest["format_version"] == 2 and model.max_length == 4096
    assert all("CPUExecutionProvider" in nodes for nodes in model.node_assignments())


def test_progress_counts_requests(model, capsys):
    requests = [{"prompt": "q", "responses": ["a"]}] * 40
    model.score_batch(requests, progress=True)
    assert "40/40" in capsys.readouterr().err
    counts = []
    model.score_requests(requests, False, counts.append)
    assert counts == [32, 8]
