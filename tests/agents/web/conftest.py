"""A server on loopback, as `tokenlm play` and `tokenlm serve` start it."""

import threading
import time
from contextlib import contextmanager

import pytest


@contextmanager
def serving(app):
    """The address of `app` while it is served."""
    from tokenlm.agents.web.server import address, listen, server_of

    listening, server = listen(0), server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield address(listening)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="session")
def served():
    return serving
