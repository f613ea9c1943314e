"""What is tried again, how often and when; what is not."""

import socket
import ssl
import subprocess
import threading
import time
from email.utils import formatdate

import pytest
from fakeserver import FakeServer

import tia2_engine as t2
from tia2_engine._transport import Transport, backoff, retry_after

ERROR = {"error": {"message": "why", "code": "x"}}


def client(server, **options):
    return Transport(server.url, **options)


@pytest.mark.parametrize("step", [(429, {}, ERROR), (503, {}, ERROR), (502, {}, b""), "close", "cut", "reset"])
def test_tried_again(server, naps, step):
    server.script = [step, step]
    assert client(server).json("POST", "/v1/score", {"images": [], "texts": [], "pairs": []}) is not None
    assert len(server.requests) == 3 and len(naps) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 499, 500, 501, 504])
def test_not_tried_again(server, naps, status):
    server.script = [(status, {"Retry-After": "1"}, ERROR)] * 2
    with pytest.raises(t2.ServerError, match=f"status {status}: why") as raised:
        client(server).json("GET", "/v1/models")
    assert len(server.requests) == 1 and naps == []
    assert isinstance(raised.value, t2.BadRequest) == (status < 500)


def test_retry_after_is_kept(server, naps):
    server.script = [(429, {"Retry-After": "3"}, ERROR), (503, {"Retry-After": formatdate(time.time() + 8)}, ERROR)]
    client(server).json("GET", "/v1/models")
    assert 3 <= naps[0] <= 3.4 and 6 <= naps[1] <= 9


def test_bounded_in_number(server, naps):
    server.script = [(429, {}, ERROR)] * 10
    with pytest.raises(t2.Overloaded, match="status 429: why"):
        client(server, retries=4).json("GET", "/v1/models")
    assert len(server.requests) == 5
    assert all(0.25 * 2**i / 2 <= nap <= 0.25 * 2**i for i, nap in enumerate(naps))


def test_bounded_in_time(server, naps):
    server.script = [(429, {"Retry-After": "3600"}, ERROR)] * 2
    with pytest.raises(t2.Overloaded):
        client(server, retry_seconds=60).json("GET", "/v1/models")
    assert naps == [] and len(server.requests) == 1


def test_backoff_has_a_ceiling():
    assert max(backoff(n, None) for n in range(2000)) <= 10


@pytest.mark.parametrize(
    "value, want",
    [(None, None), ("7", 7), (" 7 ", 7), ("0", 0), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after(value, want):
    assert retry_after(value) == want


def test_no_server(naps):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
    with pytest.raises(t2.ConnectionFailed, match="refused"):
        Transport(url, retries=2).json("GET", "/v1/models")
    assert len(naps) == 2


def test_server_that_comes_up_later(server, naps):
    server.script = ["close", "close", (503, {}, ERROR)]
    client(server).json("GET", "/v1/models")
    assert len(naps) == 3


def test_timeout_is_not_tried_again(server, naps):
    server.script = ["stall"]
    start = time.monotonic()
    with pytest.raises(t2.TimedOut, match="no answer within 0.2 s"):
        client(server, timeout=0.2).json("GET", "/v1/models")
    assert time.monotonic() - start < 2 and len(server.requests) == 1 and naps == []


class Raw:
    """A server that answers one connection with what serve(connection) does."""

    def __init__(self, serve):
        self.serve, self.accepted = serve, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        self.accepted += 1
        with connection:
            try:
                self.serve(connection)
            except OSError:
                pass  # the client has left

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.thread.join(5)


def test_timeout_is_for_the_whole_answer(naps):
    """A server that sends a byte now and then does not hold a client for ever."""

    def drip(connection):
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    with Raw(drip) as server:
        start = time.monotonic()
        with pytest.raises(t2.TimedOut):
            Transport(server.url, timeout=0.4).json("GET", "/")
        assert time.monotonic() - start < 3


def test_connection_that_the_server_closed_meanwhile(server, naps):
    """A kept connection that is dead costs no attempt."""
    server.idle_close = True
    transport = client(server, retries=0)
    for _ in range(4):
        transport.json("GET", "/v1/models")
        time.sleep(0.02)
    assert naps == []


def test_refusal_of_a_body_that_is_not_read(naps):
    """413 while the body is still being sent is 413, not a broken connection that is tried again."""

    def refuse(connection):
        connection.recv(1024)
        body = b'{"error":{"message":"too large"}}'
        head = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with Raw(refuse) as server:
        with pytest.raises(t2.BadRequest, match="status 413: too large"):
            Transport(server.url).request("POST", "/", b"x" * (4 << 20))
        assert server.accepted == 1


def test_key(server):
    client(server, api_key="secret").json("GET", "/v1/models")
    client(server).json("GET", "/v1/models")
    assert [r[2]["Authorization"] for r in server.requests] == ["Bearer secret", None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        subprocess.run(
            [*command.split(), "-keyout", path / "key.pem", "-out", path / "cert.pem"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip(f"openssl makes no certificate: {e}")
    return path / "cert.pem", path / "key.pem"


def test_tls(certificate, naps):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with FakeServer(tls=context) as server:
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        transport = Transport(server.url, ssl_context=trusted)
        transport.json("GET", "/v1/models")
        transport.json("GET", "/v1/models")
        assert len(server.peers) == 1
        with pytest.raises(t2.ConnectionFailed, match="(?i)certificate"):
            Transport(server.url).json("GET", "/v1/models")
        assert naps == []  # a stranger stays one
        with pytest.raises(TypeError, match="ssl_context"):
            transport.__getstate__()
        transport.close()


def test_errors_are_pickled():
    import pickle

    e = pickle.loads(pickle.dumps(t2.Overloaded(429, "why", 3.0)))
    assert (type(e), e.status, e.message, e.retry_after) == (t2.Overloaded, 429, "why", 3.0)
