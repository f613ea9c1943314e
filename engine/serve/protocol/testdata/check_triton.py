"""Asks a test server with Triton's own clients, over HTTP and gRPC, and compares with what its fake backend computes.

    python check_triton.py HTTP_HOST:PORT GRPC_HOST:PORT        needs tritonclient[http,grpc]
"""

import base64
import queue
import sys
import zlib

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

REWARDS = ["clip", "pickscore", "hpsv2", "imagereward", "aesthetic"]
FILES = [b"\xff\xd8\xff one", b"\x89PNG two"]
TEXTS = ["a red cube", "猫"]


def score(reward, file, text):
    """fakeScore of fake_test.go."""
    return np.float32(zlib.crc32(file) % 1000 + (0 if reward == "aesthetic" else 1000 * len(text.encode())) + 0.25 * REWARDS.index(reward))


def expect(got, want, what):
    assert np.array_equal(np.asarray(got), np.asarray(want, np.float32), equal_nan=True), f"{what}: {got} expected {want}"


def inputs(api, files=FILES, texts=TEXTS, **how):
    images, prompts = api.InferInput("images", [len(files)], "BYTES"), api.InferInput("texts", [len(texts)], "BYTES")
    images.set_data_from_numpy(np.array(files, dtype=np.object_), **how)
    prompts.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=np.object_), **how)
    return [images, prompts]


def check(api, client, name):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("clip") and client.is_model_ready("clip", "1"), name
    zipped = [score("clip", f, t) for f, t in zip(FILES, TEXTS)]
    result = client.infer("clip", inputs(api), request_id="42")
    expect(result.as_numpy("scores"), zipped, f"{name}: zip")
    result = client.infer("rewards", inputs(api), model_version="1", parameters={"pairs": "all", "scale": "/4"},
                          outputs=[api.InferRequestedOutput("hpsv2"), api.InferRequestedOutput("pickscore")])
    for reward in ("hpsv2", "pickscore"):
        expect(result.as_numpy(reward), [[score(reward, f, t) / 4 for t in TEXTS] for f in FILES], f"{name}: all of {reward}")
    result = client.infer("clip", inputs(api, files=[b"bad \xff", FILES[1]]))
    expect(result.as_numpy("scores"), [np.nan, zipped[1]], f"{name}: a bad picture")
    pixels = api.InferInput("images", [2, 4, 5, 3], "UINT8")
    pixels.set_data_from_numpy(np.random.default_rng(1).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8))
    assert client.infer("aesthetic", [pixels]).as_numpy("scores").shape == (2,), f"{name}: pixels"
    for call in (lambda: client.infer("ocr", inputs(api)), lambda: client.infer("clip", inputs(api)[:1]), lambda: client.get_model_metadata("ocr")):
        try:
            call()
            raise AssertionError(f"{name}: no error")
        except InferenceServerException as e:
            assert "unknown model" in str(e) or "expected images and texts" in str(e), f"{name}: {e}"


http_at, grpc_at = sys.argv[1:]
with tritonclient.http.InferenceServerClient(http_at) as client:
    check(tritonclient.http, client, "http")
    encoded = [base64.b64encode(f) for f in FILES]
    result = client.infer("clip", inputs(tritonclient.http, files=encoded, binary_data=False),
                          outputs=[tritonclient.http.InferRequestedOutput("scores", binary_data=False)])
    expect(result.as_numpy("scores"), [score("clip", f, t) for f, t in zip(FILES, TEXTS)], "http: JSON")
    result = client.infer("clip", inputs(tritonclient.http, files=[base64.b64encode(b"bad"), encoded[1]], binary_data=False),
                          outputs=[tritonclient.http.InferRequestedOutput("scores", binary_data=False)])
    assert np.isnan(result.as_numpy("scores")[0]), "http: JSON of a bad picture"
    assert client.get_server_metadata()["name"] == "tia2-engine"
    assert [t["name"] for t in client.get_model_metadata("rewards")["outputs"]] == REWARDS
    assert client.get_model_config("clip")["input"][0]["data_type"] == "TYPE_STRING"
    assert client.get_inference_statistics("clip")["model_stats"][0]["inference_stats"]["success"]["count"] >= 3

with tritonclient.grpc.InferenceServerClient(grpc_at) as client:
    check(tritonclient.grpc, client, "grpc")
    assert client.get_server_metadata().name == "tia2-engine"
    assert [t.name for t in client.get_model_metadata("rewards").outputs] == REWARDS
    assert client.get_model_config("clip").config.input[0].name == "images"
    assert client.get_inference_statistics("clip").model_stats[0].inference_stats.success.count >= 2
    done = queue.Queue()
    client.async_infer("clip", inputs(tritonclient.grpc), callback=lambda result, error: done.put(error or result))
    expect(done.get(timeout=60).as_numpy("scores"), [score("clip", f, t) for f, t in zip(FILES, TEXTS)], "grpc: async")
    try:
        client.infer("clip", inputs(tritonclient.grpc, texts=["slow", "a"]), client_timeout=0.2)
        raise AssertionError("grpc: no deadline")
    except InferenceServerException as e:
        assert "DEADLINE_EXCEEDED" in str(e), e
print("tritonclient: http and grpc agree")
