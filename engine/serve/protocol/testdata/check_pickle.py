"""Asks a test server the way the clients of pickled dicts and of UniRL do, with their HTTP library and its retries.

    python check_pickle.py URL URL_BUSY        needs requests; URL_BUSY refuses the first requests with 429 and 503
"""

import base64
import pickle
import sys
import time
import zlib

import requests
from requests.adapters import HTTPAdapter, Retry

url, busy = sys.argv[1:]
REWARDS = ["clip", "pickscore", "hpsv2", "imagereward", "aesthetic"]
FILES = [b"\xff\xd8\xff one", b"\x89PNG two"]
TEXTS = ["a red cube", "猫"]


def score(reward, file, text):
    """fakeScore of fake_test.go."""
    return zlib.crc32(file) % 1000 + (0 if reward == "aesthetic" else 1000 * len(text.encode())) + 0.25 * REWARDS.index(reward)


# flow_grpo and ddpo-pytorch: up to 1000 tries on status 500, and as long as Retry-After says on 429 and 503
session = requests.Session()
session.mount("http://", HTTPAdapter(max_retries=Retry(total=1000, backoff_factor=1, status_forcelist=[500], allowed_methods=False)))
response = session.post(url, data=pickle.dumps({"images": FILES, "prompts": TEXTS}), timeout=120)
assert pickle.loads(response.content)["outputs"] == [score("clip", f, t) for f, t in zip(FILES, TEXTS)]
begin = time.monotonic()
bad = session.post(url, data=pickle.dumps({"images": FILES}) , timeout=120, params={"reward": "clip"})
assert bad.status_code == 400 and "needs texts" in pickle.loads(bad.content)["error"], bad.content
assert time.monotonic() - begin < 5, "a bad request was repeated"
response = session.post(busy, data=pickle.dumps({"images": FILES, "prompts": TEXTS}), timeout=120)
assert response.status_code == 200 and len(pickle.loads(response.content)["outputs"]) == 2, response.content

# deepgen_rl: the address ends with a slash
response = requests.post(f"{url}/pickscore/", data=pickle.dumps({"images": FILES, "prompts": TEXTS, "metadata": {}}), timeout=600)
response.raise_for_status()
assert pickle.loads(response.content)["scores"] == [score("pickscore", f, t) for f, t in zip(FILES, TEXTS)]

# UniRL
turn = {"text": TEXTS[0], "image_b64": base64.b64encode(FILES[0]).decode()}
ask = {"requests": [{"history": [turn], "required_rewards": ["hpsv2", "clip"], "metadata": None}]}
response = requests.post(f"{url}/score", json=ask, timeout=60)
response.raise_for_status()
result = response.json()
assert result["results"][0]["hpsv2"] == {"hpsv2": score("hpsv2", FILES[0], TEXTS[0])}, result
assert abs(result["results"][0]["clip"]["clip"] - score("clip", FILES[0], TEXTS[0]) / 30) < 1e-4 and result["errors"] == [{}], result
health = requests.get(f"{url}/health", timeout=5).json()
assert health["status"] == "ok" and sorted(health["rewards"]) == sorted(REWARDS), health
print("pickle and UniRL: agree")
