"""A server in a thread of the test, for real browsers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from upscale.app.application import Application
from upscale.app.routes import make_server
from upscale.app.security import Access
from upscale.app.server import listen

TOKEN = "token-of-the-tests-0123"


@contextmanager
def serving(application: Application) -> Iterator[Access]:
    """Serve an application on a free port."""
    listener = listen("127.0.0.1", 0)
    access = Access(TOKEN, "127.0.0.1", listener.getsockname()[1])
    server = uvicorn.Server(
        uvicorn.Config(make_server(application, access), log_config=None, lifespan="off")
    )
    loop = asyncio.new_event_loop()
    work = server.serve(sockets=[listener])
    thread = threading.Thread(target=lambda: loop.run_until_complete(work))
    thread.start()
    try:
        yield access
    finally:
        server.should_exit = True
        thread.join()
        loop.close()
        listener.close()
