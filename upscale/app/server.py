"""Run the server until it is interrupted."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn

from upscale.app.application import Application
from upscale.app.routes import make_server
from upscale.app.security import Access
from upscale.errors import OutputError
from upscale.files.error_mapping import one_line

_CONNECTIONS = 200
_SECONDS_TO_CLOSE = 3


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: Name or address of this machine.
        port: Port; 0 for a free one.

    Raises:
        OutputError: The address is in use, or is not one of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OutputError(
            f"{host}:{port}: cannot listen there ({one_line(error)}); choose another --port or "
            "--host"
        ) from error


def serve(
    application: Application, access: Access, listener: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve until the process is interrupted.

    Args:
        application: Uploads, queue and settings.
        access: Who may use it.
        listener: Socket of the server.
        ready: Function that is called once the server answers.

    Raises:
        KeyboardInterrupt: The process was interrupted, and requests have ended.
    """
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn").propagate = False
    server = uvicorn.Server(
        uvicorn.Config(
            make_server(application, access),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
        )
    )

    async def run() -> None:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        ready()
        await task

    asyncio.run(run())
