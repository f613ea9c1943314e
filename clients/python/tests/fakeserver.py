"""A server with the native JSON protocol and rewards that can be computed by hand, which fails as it is told to."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

REWARDS = ("clip", "pickscore")


def reward(name: str, image: np.ndarray, text: str) -> float:
    """Mean of the pixels, the length of the text, and a constant of the reward: any change of a pixel changes it."""
    weights = np.arange(1, image.size + 1, dtype=np.float64).reshape(image.shape)
    return float((image * weights).sum() / weights.sum() + 1000 * len(text) + REWARDS.index(name))


class BadPicture(Exception):
    pass


class Refused(Exception):
    pass


def read_image(file: str) -> np.ndarray:
    try:
        data = base64.b64decode(file, validate=True)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except Exception as e:
        raise BadPicture(str(e)) from e


class FakeServer(ThreadingHTTPServer):
    """Use as a context manager; url says where it is.

    script      what to answer first: (status, headers, body), or "close" (without an answer), "stall", "cut" (half an
                answer) or "reset" (with the body unread), one for each request
    requests    (method, path, headers, value) of all requests, those that were answered by the script too
    peers       connections that requests came over
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, tls=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.peers = [], [], set()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.idle_close = False  # closes a connection after each answer, without saying so
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_any(None)

    def do_POST(self):
        with self.server.lock:
            step = self.server.script[0] if self.server.script else None
        if step == "reset":
            with self.server.lock:
                self.server.script.pop(0)
                self.server.requests.append(("POST", self.path, self.headers, None))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self.handle_any(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def handle_any(self, value):
        with self.server.lock:
            self.server.requests.append((self.command, self.path, self.headers, value))
            self.server.peers.add(self.client_address)
            step = self.server.script.pop(0) if self.server.script else None
        if step == "close":
            self.close_connection = True
            return
        if step == "stall":
            self.server.closing.wait(5)
            self.close_connection = True
            return
        if step is None or step == "cut":
            status, headers, answer = self.answer(value)
        else:
            status, headers, answer = step
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if step == "cut" else body)
        if step == "cut" or self.server.idle_close:
            self.close_connection = True

    def answer(self, value):
        routes = {
            "/v1/score": self.score,
            "/v1/textnorm": self.textnorm,
            "/v1/embeddings": self.embeddings,
            "/v1/models": self.models,
            "/readyz": lambda _: {},
        }
        route = routes.get(self.path)
        if route is None:
            return 404, {}, {"error": {"message": f"no {self.path}", "code": "not_found"}}
        try:
            return 200, {}, route(value)
        except Refused as e:
            return 400, {}, {"error": {"message": str(e), "type": "invalid_request_error"}}
        except KeyError as e:
            return 404, {}, {"error": {"message": f"no reward {e.args[0]}", "code": "unknown_reward"}}

    def chosen(self, value):
        names = value.get("rewards") or REWARDS
        for name in names:
            if name not in REWARDS:
                raise KeyError(name)
        return names

    def read_images(self, value):
        images, errors = [], []
        for i, file in enumerate(value["images"]):
            try:
                images.append(read_image(file))
            except BadPicture as e:
                images.append(None)
                errors.append({"image": i, "message": f"not a picture: {e}"})
        return images, errors

    def score(self, value):
        images, errors = self.read_images(value)
        rewards = {
            name: [None if images[i] is None else reward(name, images[i], value["texts"][t]) for i, t in value["pairs"]]
            for name in self.chosen(value)
        }
        return {"rewards": rewards, "pairs": value["pairs"], "errors": errors}

    def textnorm(self, value):
        images, errors = self.read_images(value)
        texts = [value["prompt"], *value["contrastive"]]
        scale, out = value.get("scale", 10), {}
        for name in self.chosen(value):
            scores = [None if im is None else [reward(name, im, t) for t in texts] for im in images]
            out[name] = {"scores": scores, "confidence": [None if s is None else confidence(s, scale) for s in scores]}
        return {"rewards": out, "errors": errors}

    def embeddings(self, value):
        data = []
        for i, item in enumerate(value["input"]):
            try:
                vector = [len(item), 1.0] if isinstance(item, str) else [float(read_image(item["image"]).mean()), 2.0]
            except BadPicture as e:
                raise Refused(f"input[{i}]: {e}") from e
            raw = struct.pack("<2f", *vector)
            encoded = base64.b64encode(raw).decode() if value.get("encoding_format") == "base64" else vector
            data.append({"object": "embedding", "index": i, "embedding": encoded})
        return {"object": "list", "data": data, "model": value["model"]}

    def models(self, _):
        return {
            "object": "list",
            "data": [{"id": "demo", "rewards": ["clip"]}, {"id": "PickScore_v1", "rewards": ["pickscore"]}],
        }


def confidence(scores, scale):
    """TextNorm: min-max, softmax, the share of the first."""
    x = np.asarray(scores)
    span = x.max() - x.min()
    e = np.exp(scale * (x - x.min()) / (span if span > 0 else 1))
    return float(e[0] / e.sum())
