"""The functions that trainers call."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakeserver import confidence, reward
from test_images import Tensor, reference

import tia2_engine as t2

RNG = np.random.default_rng(3)
FLOATS = RNG.random((4, 3, 6, 5), dtype=np.float32)
BYTES = reference(FLOATS)
PROMPTS = ("a", "bb", "ccc", "bb")


def want(name):
    return np.array([reward(name, i, p) for i, p in zip(BYTES, PROMPTS)], np.float32)


@pytest.mark.parametrize("images", [FLOATS, Tensor(FLOATS), list(BYTES)])
def test_reward_fn(server, images):
    scores, info = t2.reward_fn(server.url, "pickscore")(images, PROMPTS, ({},) * 4)
    np.testing.assert_array_equal(scores, want("pickscore"))
    assert scores.dtype == np.float32 and list(info) == ["pickscore"]


@pytest.mark.parametrize(
    "models, weights, expect",
    [
        (["clip", "pickscore"], [0.25, 2], (0.25, 2)),
        ({"clip": 0.25, "pickscore": 2}, None, (0.25, 2)),
        (["clip", "pickscore"], None, (0.5, 0.5)),
    ],
)
def test_weights(server, models, weights, expect):
    scores, info = t2.reward_fn(server.url, models, weights)(FLOATS, PROMPTS, None)
    total = expect[0] * want("clip").astype(float) + expect[1] * want("pickscore").astype(float)
    np.testing.assert_array_equal(scores, total.astype(np.float32))
    assert sorted(info) == ["clip", "pickscore"]
    assert len(server.requests) == 1  # all rewards of a batch in one request


@pytest.mark.parametrize(
    "models, weights",
    [([], None), (["a"], [1, 2]), ({"a": 1}, [1]), (["a", "a"], None), ({"a": float("nan")}, None)],
)
def test_wrong_weights(models, weights):
    with pytest.raises(ValueError):
        t2.reward_fn("http://x", models, weights)


def test_multi_score(server):
    fn = t2.multi_score(server.url, {"pickscore": 0.5, "clipscore": 2.0})
    scores, info = fn(Tensor(FLOATS), PROMPTS, [{}] * 4, only_strict=True)
    assert info == {} and list(scores) == ["pickscore", "clipscore", "avg"]
    np.testing.assert_allclose(scores["pickscore"], want("pickscore") / 26, rtol=1e-6)
    np.testing.assert_allclose(scores["clipscore"], want("clip") / 30, rtol=1e-6)
    np.testing.assert_allclose(scores["avg"], want("pickscore") / 52 + want("clip") / 15, rtol=1e-6)
    raw, _ = t2.multi_score(server.url, {"pickscore": 1.0}, scales={})(BYTES, PROMPTS, None)
    np.testing.assert_array_equal(raw["avg"], want("pickscore"))


def test_textnorm_fn(server):
    contrastive = {"a": ["aa", "aaa"], "bb": ["b"], "ccc": ["c", "cc"]}
    for source in (contrastive, lambda p: contrastive[p]):
        scores, info = t2.textnorm_fn(server.url, "clip", source, scale=2.0)(FLOATS, PROMPTS, None)
        expect = [confidence([reward("clip", i, t) for t in [p, *contrastive[p]]], 2.0) for i, p in zip(BYTES, PROMPTS)]
        np.testing.assert_allclose(scores, np.float32(expect), rtol=1e-6)
        np.testing.assert_array_equal(info["clip"], scores)
    assert len(server.requests) == 6  # one for each prompt
    with pytest.raises(ValueError, match="4 images and 1 prompts"):
        t2.textnorm_fn(server.url, "clip", contrastive)(FLOATS, ["a"], None)


def test_failed_picture(server):
    images = [*BYTES[:3], b"broken"]
    with pytest.warns(t2.ItemWarning):
        scores, _ = t2.reward_fn(server.url, "clip")(images, PROMPTS, None)
    np.testing.assert_array_equal(scores, [*want("clip")[:3], np.nan])
    with pytest.warns(t2.ItemWarning):
        scores, _ = t2.textnorm_fn(server.url, "clip", lambda p: ["x"])(images, PROMPTS, None)
    assert np.isnan(scores).tolist() == [False, False, False, True]
    with pytest.raises(t2.ItemsFailed):
        t2.reward_fn(server.url, "clip", on_error="raise")(images, PROMPTS, None)


def test_unknown_reward(server):
    with pytest.raises(t2.BadRequest, match="no reward nope"):
        t2.reward_fn(server.url, "nope")(FLOATS, PROMPTS, None)


def test_in_the_threads_of_a_trainer(server):
    fn = t2.reward_fn(server.url, "clip")
    with ThreadPoolExecutor(8) as pool:
        for scores, _ in pool.map(lambda _: fn(FLOATS, PROMPTS, None), range(24)):
            np.testing.assert_array_equal(scores, want("clip"))


def test_pickled(server):
    fn = pickle.loads(pickle.dumps(t2.multi_score(server.url, {"clip": 1.0})))
    np.testing.assert_allclose(fn(FLOATS, PROMPTS, None)[0]["clip"], want("clip"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork(server):
    """Workers of a data loader are forked: connections and threads of the parent are not theirs."""
    fn = t2.reward_fn(server.url, "clip", batch=1)
    fn(FLOATS, PROMPTS, None)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if np.array_equal(fn(FLOATS, PROMPTS, None)[0], want("clip")) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    np.testing.assert_array_equal(fn(FLOATS, PROMPTS, None)[0], want("clip"))
