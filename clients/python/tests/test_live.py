"""Against a running server, where TIA2_ENGINE_URL names one (`tia2-engine serve --model demo`)."""

import os

import numpy as np
import pytest

import tia2_engine as t2

URL = os.environ.get("TIA2_ENGINE_URL")
pytestmark = pytest.mark.skipif(not URL, reason="TIA2_ENGINE_URL names no server")

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
TEXTS = ["a red circle", "two blue squares", "東京の夜", "", "a red circle", "x " * 200]


@pytest.fixture
def client():
    with t2.Client(URL, api_key=os.environ.get("TIA2_ENGINE_KEY"), timeout=60) as c:
        c.wait_ready(30)
        yield c


def test_score(client):
    assert client.rewards()
    whole = client.score(IMAGES, TEXTS)
    for name, values in whole.rewards.items():
        assert np.isfinite(values).all() and values.shape == (6,), name
    client.batch = 1
    single = client.score(IMAGES, TEXTS)
    for name, values in whole.rewards.items():
        np.testing.assert_allclose(single.rewards[name], values, rtol=1e-4, atol=1e-4)
    matrix = client.score(IMAGES, TEXTS, pairs="all")
    for name, values in whole.rewards.items():
        np.testing.assert_allclose(matrix.rewards[name].reshape(6, 6).diagonal(), values, rtol=1e-4, atol=1e-4)


def test_kinds_of_pictures_agree(client):
    floats = (IMAGES.astype(np.float32) / 255).transpose(0, 3, 1, 2)
    a, b = client.score(IMAGES, TEXTS), client.score(floats, TEXTS)
    for name in a.rewards:
        np.testing.assert_array_equal(a.rewards[name], b.rewards[name])


def test_bad_picture(client):
    with pytest.warns(t2.ItemWarning):
        got = client.score([IMAGES[0], b"broken", IMAGES[2]], TEXTS[:3])
    for values in got.rewards.values():
        assert np.isnan(values).tolist() == [False, True, False]


def test_textnorm(client):
    texts = ["a red circle", "a blue circle", "two red circles"]
    got = client.textnorm(IMAGES, texts[0], texts[1:])
    scores = client.score(IMAGES, texts, pairs="all")
    for name, values in got.confidence.items():
        matrix = scores.rewards[name].reshape(6, 3)
        np.testing.assert_allclose(np.sort(got.scores[name], axis=1), np.sort(matrix, axis=1), rtol=1e-4, atol=1e-4)
        span = np.ptp(matrix, axis=1, keepdims=True)
        e = np.exp(10 * (matrix - matrix.min(axis=1, keepdims=True)) / np.where(span > 0, span, 1))
        np.testing.assert_allclose(values, e[:, 0] / e.sum(axis=1), atol=2e-2)


def test_embeddings(client):
    model = client.models()[0]["id"]
    images, texts = client.embed_images(IMAGES, model), client.embed_texts(["a", "b"], model)
    assert images.vectors.shape[0] == 6 and texts.vectors.shape == (2, images.vectors.shape[1])
    np.testing.assert_allclose(np.linalg.norm(texts.vectors, axis=1), 1, atol=1e-4)


def test_unknown_reward(client):
    with pytest.raises(t2.BadRequest, match="nope"):
        client.score(IMAGES[:1], TEXTS[:1], "nope")


def test_trainers(client):
    name = client.rewards()[0]
    scores, info = t2.reward_fn(URL, name, api_key=os.environ.get("TIA2_ENGINE_KEY"))(IMAGES, TEXTS, None)
    assert np.isfinite(scores).all() and list(info) == [name]
