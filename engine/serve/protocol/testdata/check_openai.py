"""Asks a test server with OpenAI's own client and compares with what its fake backend computes.

    python check_openai.py URL        needs openai and numpy (with which the client asks for base64)
"""

import base64
import sys
import zlib

import openai

FILE = b"\xff\xd8\xff one"
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
picture = "data:image/jpeg;base64," + base64.b64encode(FILE).decode()
want = [[5.0, 0.25, -1.0], [float(zlib.crc32(FILE) % 1000), 0.5, 1.0]]

for how in ({}, {"encoding_format": "float"}):
    answer = client.embeddings.create(model="clip-vit-l-14", input=["a cat", picture], **how)
    assert [d.embedding for d in answer.data] == want, answer
    assert [d.index for d in answer.data] == [0, 1] and answer.model == "clip-vit-l-14"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4 + 257, answer.usage
answer = client.embeddings.create(model="clip-vit-l-14", input=["a cat"], encoding_format="base64")
assert base64.b64decode(answer.data[0].embedding).hex() == "0000a0400000803e000080bf", answer

for kind, ask in (
    (openai.NotFoundError, {"model": "text-embedding-3-small", "input": "a"}),
    (openai.BadRequestError, {"model": "clip-vit-l-14", "input": [[1, 2, 3]]}),
    (openai.BadRequestError, {"model": "clip-vit-l-14", "input": "a", "dimensions": 7}),
):
    try:
        client.embeddings.create(**ask)
        raise AssertionError(f"no {kind.__name__} for {ask}")
    except kind as e:
        assert e.type == "invalid_request_error" and e.body["message"], e.body
print("openai: agrees")
