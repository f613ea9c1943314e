import pytest
from fakeserver import FakeServer


@pytest.fixture
def server():
    with FakeServer() as s:
        yield s


@pytest.fixture
def naps(monkeypatch):
    """The waits between attempts, which are not slept."""
    import tia2_engine._transport as transport

    waits = []
    init = transport.Transport.__init__

    def quick(self, *args, **kwargs):
        init(self, *args, **{**kwargs, "sleep": waits.append})

    monkeypatch.setattr(transport.Transport, "__init__", quick)
    return waits
