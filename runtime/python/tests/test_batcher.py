"""`Batcher`: futures, tasks, cancelling, closing."""

import asyncio
import gc
import threading
import time

import pytest
from conftest import IMAGE

import seeward
from seeward import errors


def test_futures_have_the_rewards_of_the_batch(model):
    requests = [{"prompt": f"q{n % 7}", "responses": [f"a{n}"], "images": [None, IMAGE][n % 2]} for n in range(60)]
    expected = [scores.rewards for scores in model.score_batch(requests)]
    with seeward.Batcher(model) as batcher:
        futures = [batcher.submit(**request) for request in requests]
        for future, rewards in zip(futures, expected, strict=True):
            assert future.result(60).rewards == pytest.approx(rewards, abs=1e-5)


def test_thousands_of_tasks_are_answered(model):
    async def main(batcher):
        tasks = [batcher.score("q", [f"a{n % 50}"]) for n in range(2000)]
        return await asyncio.gather(*tasks)

    # So little room that most tasks wait for it.
    with seeward.Batcher(model, queue_bytes=100) as batcher:
        answers = asyncio.run(main(batcher))
    expected = [model.score("q", [f"a{n}"])[0] for n in range(50)]
    rewards = [scores.rewards[0] for scores in answers]
    assert rewards == pytest.approx(expected * 40, abs=1e-5)


def test_a_full_queue_refuses(model):
    with seeward.Batcher(model, queue_bytes=1, max_batch_size=1) as batcher:
        futures = []
        with pytest.raises(errors.QueueFull, match="the queue is full"):
            for _ in range(1000):
                futures.append(batcher.submit("q " * 100, ["a"]))
        assert all(future.result(60).rewards for future in futures)


def test_errors_are_the_futures(model):
    with seeward.Batcher(model) as batcher:
        assert isinstance(batcher.submit("q", ["a"], "no.png").exception(60), errors.ImageError)
        with pytest.raises(TypeError, match="responses: expected a list of texts, got str"):
            batcher.submit("q", "abc")
    with pytest.raises(errors.Closed):
        batcher.submit("q", ["a"])
    with pytest.raises(ValueError, match="max_batch_size: expected at least 1, got 0"):
        seeward.Batcher(model, max_batch_size=0)
    with pytest.raises(ValueError, match="max_delay: expected seconds, got -1"):
        seeward.Batcher(model, max_delay=-1)


def test_a_cancelled_request_leaves_the_queue(model):
    with seeward.Batcher(model, max_batch_size=1) as batcher:
        futures = [batcher.submit(f"{n} " * 500, ["a"]) for n in range(40)]
        cancelled = [future for future in futures[20:] if future.cancel()]
        assert len(cancelled) > 10
        assert all(future.result(60).rewards for future in futures if future not in cancelled)


def test_cancelled_tasks_do_not_disturb_others(model):
    async def main(batcher):
        tasks = [asyncio.ensure_future(batcher.score(f"{n} " * 300, ["a"])) for n in range(20)]
        await asyncio.sleep(0.01)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with seeward.Batcher(model, max_batch_size=1) as batcher:
        results = asyncio.run(main(batcher))
    assert all(isinstance(result, seeward.Scores) for result in results[1::2])


def test_a_batcher_may_be_dropped_with_requests_in_it(model):
    answered = []
    batcher = seeward.Batcher(model)
    for number in range(50):
        batcher.submit(f"q{number}", ["a"]).add_done_callback(answered.append)
    del batcher
    gc.collect()
    end = time.monotonic() + 30
    while len(answered) < 50 and time.monotonic() < end:
        time.sleep(0.01)
    assert all(future.result().rewards for future in answered) and len(answered) == 50


def test_threads_share_a_batcher(model):
    results = {}

    def work(batcher, number):
        results[number] = batcher.submit("q", [f"a{number}"]).result(60).rewards[0]

    with seeward.Batcher(model) as batcher:
        threads = [threading.Thread(target=work, args=(batcher, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [results[n] for n in range(8)] == pytest.approx([model.score("q", [f"a{n}"])[0] for n in range(8)], abs=1e-5)
