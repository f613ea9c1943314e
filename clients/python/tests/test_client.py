"""Client against a server whose rewards the test can compute."""

import asyncio
import pickle
import threading
import warnings

import numpy as np
import pytest
from fakeserver import REWARDS, confidence, reward
from PIL import Image

import tia2_engine as t2
from tia2_engine._client import cut, pair_up

RNG = np.random.default_rng(2)
IMAGES = RNG.integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
TEXTS = [f"{'x' * i} text" for i in range(7)]
BROKEN = b"\x89PNG broken"


def want(name, pairs, images=IMAGES, texts=TEXTS):
    return np.array([reward(name, images[i], texts[t]) for i, t in pairs], np.float32)


@pytest.mark.parametrize("batch", [1, 2, 3, 32])
@pytest.mark.parametrize("connections", [1, 3])
def test_score_zip(server, batch, connections):
    with t2.Client(server.url, batch=batch, connections=connections) as client:
        got = client.score(IMAGES, TEXTS)
    pairs = [(i, i) for i in range(7)]
    assert got.pairs.tolist() == [list(p) for p in pairs] and got.errors == [] and list(got.rewards) == list(REWARDS)
    for name in REWARDS:
        np.testing.assert_array_equal(got.rewards[name], want(name, pairs))
    assert len(server.requests) == -(-7 // batch)


@pytest.mark.parametrize(
    "images, texts, pairs, expect",
    [
        (IMAGES[:2], TEXTS[:3], "all", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
        (IMAGES[:1], TEXTS[:3], "zip", [(0, 0), (0, 1), (0, 2)]),
        (IMAGES[:3], TEXTS[4], "zip", [(0, 0), (1, 0), (2, 0)]),
        (IMAGES, TEXTS, [(6, 0), (0, 6), (6, 1), (3, 3), (0, 0)], [(6, 0), (0, 6), (6, 1), (3, 3), (0, 0)]),
        (IMAGES, TEXTS, np.array([[2, 5]]), [(2, 5)]),
        (IMAGES[:0], [], "zip", []),
        (IMAGES, TEXTS, [], []),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 32])
def test_pairs(server, images, texts, pairs, expect, batch):
    got = t2.Client(server.url, batch=batch).score(images, texts, "clip", pairs)
    assert [tuple(p) for p in got.pairs.tolist()] == expect
    all_texts = [texts] if isinstance(texts, str) else texts
    np.testing.assert_array_equal(got.rewards["clip"], want("clip", expect, images, all_texts))


@pytest.mark.parametrize("pairs", ["zap", [(0, 7)], [(-1, 0)], [(7, 0)]])
def test_pairs_that_do_not_fit(pairs):
    with pytest.raises(ValueError, match="pairs"):
        pair_up(pairs, 7, 7)
    with pytest.raises(ValueError, match="2 images and 3 texts"):
        pair_up("zip", 2, 3)


def test_cut_keeps_order_and_bounds_images():
    pairs = RNG.integers(0, 9, (200, 2))
    parts = cut(pairs, 4)
    np.testing.assert_array_equal(np.concatenate(parts), pairs)
    assert all(1 <= len(set(p[:, 0].tolist())) <= 4 for p in parts)


def test_texts_are_sent_once_and_as_strings(server):
    t2.Client(server.url).score(IMAGES[:2], np.array(["née 東京", "b"]), "clip", "all")
    value = server.requests[0][3]
    assert value["texts"] == ["née 東京", "b"] and len(value["images"]) == 2 and len(value["pairs"]) == 4


def test_connections_are_kept(server):
    with t2.Client(server.url, connections=1) as client:
        for _ in range(5):
            client.score(IMAGES[:1], TEXTS[:1])
    assert len(server.requests) == 5 and len(server.peers) == 1


@pytest.mark.parametrize("bad", [BROKEN, np.full((3, 4, 5), np.inf, np.float32), "/no/such/file"])
def test_a_bad_picture_costs_itself(server, bad):
    images = [*IMAGES[:4], bad, *IMAGES[5:]]
    with pytest.warns(t2.ItemWarning, match="image 4: "):
        got = t2.Client(server.url, batch=3).score(images, TEXTS, "clip")
    expect = want("clip", [(i, i) for i in range(7)])
    expect[4] = np.nan
    np.testing.assert_array_equal(got.rewards["clip"], expect)
    assert [e.image for e in got.errors] == [4]
    with pytest.raises(t2.ItemsFailed, match="image 4: ") as raised:
        t2.Client(server.url, on_error="raise").score(images, TEXTS, "clip")
    assert [e.image for e in raised.value.errors] == [4]
    assert pickle.loads(pickle.dumps(raised.value)).errors == raised.value.errors


def test_only_bad_pictures(server):
    with pytest.warns(t2.ItemWarning):
        got = t2.Client(server.url).score(["/no/1", "/no/2"], TEXTS[:2])
    assert list(got.rewards) == list(REWARDS) and np.isnan(got.rewards["clip"]).all() and got.rewards["clip"].size == 2
    with pytest.warns(t2.ItemWarning):
        norm = t2.Client(server.url).textnorm(["/no/1"], "a", ["b"])
    assert norm.confidence["clip"].shape == (1,) and norm.scores["clip"].shape == (1, 2)


@pytest.mark.parametrize("batch", [2, 32])
@pytest.mark.parametrize("scale", [None, 3.0])
def test_textnorm(server, batch, scale):
    images = [*IMAGES[:2], BROKEN, *IMAGES[3:5]]
    texts = ["five cats", "six", "seven old cats"]
    with pytest.warns(t2.ItemWarning, match="image 2"):
        got = t2.Client(server.url, batch=batch).textnorm(images, texts[0], texts[1:], scale=scale)
    for name in REWARDS:
        for i in range(5):
            scores = [reward(name, IMAGES[i], t) if i != 2 else np.nan for t in texts]
            np.testing.assert_allclose(got.scores[name][i], np.float32(scores))
            expect = confidence(scores, 10 if scale is None else scale) if i != 2 else np.nan
            np.testing.assert_allclose(got.confidence[name][i], np.float32(expect))
    assert [e.image for e in got.errors] == [2]


def test_textnorm_over_the_set_is_one_request(server):
    t2.Client(server.url, batch=2).textnorm(IMAGES, "a", ["bb"], "clip", minmax="set")
    assert len(server.requests) == 1 and server.requests[0][3]["minmax"] == "set"
    got = t2.textnorm(server.url, IMAGES[:1], "a", ["bb"], rewards="clip", scale=2.0, timeout=5)
    assert got.confidence["clip"].shape == (1,)


def test_embeddings(server):
    client = t2.Client(server.url, batch=2)
    with pytest.warns(t2.ItemWarning, match="image 3"):
        got = client.embed_images([*IMAGES[:3], BROKEN, IMAGES[4]], "demo")
    expect = np.array([[i.mean(), 2] for i in IMAGES[:5]], np.float32)
    expect[3] = np.nan
    np.testing.assert_allclose(got.vectors, expect)
    with pytest.raises(t2.BadRequest, match="no such thing"):
        server.script = [(400, {}, {"error": {"message": "no such thing"}})]
        client.embed_images(IMAGES[:1], "demo")
    texts = [f"{'t' * i}" for i in range(40)]
    np.testing.assert_array_equal(client.embed_texts(texts, "demo").vectors, [[i, 1] for i in range(40)])
    assert client.embed_texts([], "demo").vectors.shape == (0, 0)


def test_models(server):
    client = t2.Client(server.url)
    assert [m["id"] for m in client.models()] == ["demo", "PickScore_v1"]
    assert client.rewards() == ["clip", "pickscore"]
    client.wait_ready(5)
    server.script = [(503, {}, {}), (503, {}, {})]
    assert not client.ready()
    client.wait_ready(5, interval=0.01)
    assert not t2.Client("http://127.0.0.1:1").ready()
    with pytest.raises(TimeoutError, match="not ready within 0 s"):
        t2.Client("http://127.0.0.1:1").wait_ready(0)


def test_async(server):
    async def all_of_it():
        async with t2.AsyncClient(server.url, calls=4) as client:
            jobs = [client.score(IMAGES[i], TEXTS[i], "clip") for i in range(7)]
            scores = await asyncio.gather(*jobs)
            norm = await client.textnorm(IMAGES[:1], "a", ["bb"], "clip", 3.0)
            images = await client.embed_images(IMAGES[:1], "demo")
            texts = await client.embed_texts("abc", "demo")
            return scores, norm, images, texts, await client.rewards(), await client.models(), await client.ready()

    scores, norm, images, texts, rewards, models, ready = asyncio.run(all_of_it())
    got = np.concatenate([s.rewards["clip"] for s in scores])
    np.testing.assert_array_equal(got, want("clip", [(i, i) for i in range(7)]))
    assert norm.confidence["clip"].shape == (1,) and images.vectors[0, 1] == 2 and texts.vectors[0, 0] == 3
    assert rewards == list(REWARDS) and len(models) == 2 and ready


def test_many_threads(server):
    client, wrong = t2.Client(server.url, batch=1, connections=3), []

    def work(k):
        for i in range(5):
            got = client.score(IMAGES[[k, i]], [TEXTS[k], TEXTS[i]], "clip").rewards["clip"]
            if not np.array_equal(got, want("clip", [(k, k), (i, i)])):
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(server.requests) == 60


def test_pickled_client(server):
    client = t2.Client(server.url, batch=1)
    client.score(IMAGES[:2], TEXTS[:2])
    again = pickle.loads(pickle.dumps(client))
    np.testing.assert_array_equal(
        again.score(IMAGES[:2], TEXTS[:2], "clip").rewards["clip"], want("clip", [(0, 0), (1, 1)])
    )


def test_pil_and_prefix(server):
    got = t2.Client(server.url + "/").score(Image.fromarray(IMAGES[0]), TEXTS[0], "clip")
    np.testing.assert_array_equal(got.rewards["clip"], want("clip", [(0, 0)]))
    with pytest.raises(t2.BadRequest, match="no /behind/v1/score"):
        t2.Client(server.url + "/behind").score(IMAGES[0], TEXTS[0])


@pytest.mark.parametrize(
    "options",
    [{"on_error": "skip"}, {"jpeg_quality": 0}, {"batch": 0}, {"connections": 0}, {"timeout": 0}, {"retries": -1}],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match="expected"):
        t2.Client("http://x", **options)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", ""])
def test_wrong_url(url):
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        t2.Client(url)


@pytest.mark.parametrize(
    "answer, message",
    [
        (b"nonsense", "is not JSON"),
        ({}, "no rewards"),
        ([], "no rewards"),
        ({"rewards": {"clip": [1, 2]}}, "shape"),
        ({"rewards": {"clip": ["x"]}}, "rewards.clip"),
        (b"", "no rewards"),
    ],
)
def test_answers_that_are_none(server, answer, message):
    server.script = [(200, {}, answer)]
    with pytest.raises(t2.TIA2Error, match=message):
        t2.Client(server.url).score(IMAGES[:1], TEXTS[:1], "clip")


def test_no_warnings_without_errors(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t2.Client(server.url).score(IMAGES, TEXTS)
