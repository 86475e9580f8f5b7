"""The addresses of the server: the page, its data as JSON, and files under random names."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, cast

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from upscale.app.application import Application
from upscale.app.before_after import before_after
from upscale.app.downloads import archive, media_type
from upscale.app.page import app_page
from upscale.app.security import Access, Guard
from upscale.app.tasks import Task, TaskFile
from upscale.app.uploads import Upload, UploadError
from upscale.errors import UpscaleError, UsageError
from upscale.files.printable import printable

_MOST_JSON_BYTES = 1 << 20
_FRAME_POLICY = "sandbox allow-scripts; frame-ancestors 'self'"
"""Policy of comparisons, beside their own: no access to this server, whatever is in them."""

_Endpoint = Callable[["_Handlers", Request], Awaitable[Response]]


class _MissingError(UpscaleError):
    """There is nothing under this name."""


_STATUSES: Mapping[type[UpscaleError], int] = {_MissingError: 404, UploadError: 413}


def make_server(application: Application, access: Access) -> ASGIApp:
    """Return the ASGI application.

    Args:
        application: Uploads, queue and settings.
        access: Who may use it.
    """
    handlers = _Handlers(application)
    routes = [
        Route("/", handlers.page),
        Route("/api/config", handlers.config),
        Route("/api/uploads", handlers.uploads),
        Route("/api/uploads", handlers.upload, methods=["POST"]),
        Route("/api/uploads/{id}", handlers.discard, methods=["DELETE"]),
        Route("/api/command", handlers.command, methods=["POST"]),
        Route("/api/tasks", handlers.tasks),
        Route("/api/tasks", handlers.start, methods=["POST"]),
        Route("/api/previews", handlers.preview, methods=["POST"]),
        Route("/api/tasks/{id}", handlers.remove, methods=["DELETE"]),
        Route("/api/tasks/{id}/cancel", handlers.cancel, methods=["POST"]),
        Route("/api/tasks/{id}/resume", handlers.resume, methods=["POST"]),
        Route("/tasks/{id}/archive.zip", handlers.archive),
        Route("/tasks/{id}/comparison.html", handlers.networks),
        Route("/files/{id}", handlers.result),
        Route("/files/{id}/comparison.html", handlers.comparison),
    ]
    return Guard(Starlette(routes=routes), access)


def _answers(endpoint: _Endpoint) -> _Endpoint:
    """Turn the errors of an endpoint into JSON with one line."""

    @wraps(endpoint)
    async def answer(self: _Handlers, request: Request) -> Response:
        try:
            return await endpoint(self, request)
        except UpscaleError as error:
            return _error(request, error)
        except ClientDisconnect:
            return Response(status_code=400)

    return answer


def _error(request: Request, error: UpscaleError) -> Response:
    text = printable(str(error))
    status = _STATUSES.get(type(error), 400)
    if request.url.path.endswith(".html"):  # shown in a frame of the page
        return PlainTextResponse(text, status, {"Content-Security-Policy": _FRAME_POLICY})
    return JSONResponse({"error": text}, status)


class _Handlers:
    """One method for each address."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def page(self, request: Request) -> Response:
        del request
        page = app_page()
        headers = {"Content-Security-Policy": page.policy}
        return Response(page.content, media_type="text/html; charset=utf-8", headers=headers)

    @_answers
    async def config(self, request: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self._application.config))

    @_answers
    async def uploads(self, request: Request) -> Response:
        return JSONResponse([_upload_record(each) for each in self._application.store.staged()])

    @_answers
    async def upload(self, request: Request) -> Response:
        store, name = self._application.store, request.query_params.get("name", "")
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        upload = await store.receive(name, size, request.stream())
        return JSONResponse(_upload_record(upload), 201)

    @_answers
    async def discard(self, request: Request) -> Response:
        upload = self._application.store.get(request.path_params["id"])
        if upload is not None:
            await to_thread.run_sync(self._application.discard, upload)
        return Response(status_code=204)

    @_answers
    async def command(self, request: Request) -> Response:
        body = await _body(request)
        lines = await to_thread.run_sync(
            self._application.commands, body.get("settings"), body.get("uploads")
        )
        return JSONResponse({"commands": lines})

    @_answers
    async def tasks(self, request: Request) -> Response:
        return JSONResponse([task.record() for task in self._application.queue.all()])

    @_answers
    async def start(self, request: Request) -> Response:
        return await self._start(request, is_preview=False)

    @_answers
    async def preview(self, request: Request) -> Response:
        return await self._start(request, is_preview=True)

    @_answers
    async def remove(self, request: Request) -> Response:
        await to_thread.run_sync(self._application.queue.remove, self._task(request))
        return Response(status_code=204)

    @_answers
    async def cancel(self, request: Request) -> Response:
        task = self._task(request)
        self._application.queue.cancel(task)
        return JSONResponse(task.record())

    @_answers
    async def resume(self, request: Request) -> Response:
        task = self._task(request)
        self._application.queue.resume(task)
        return JSONResponse(task.record())

    @_answers
    async def archive(self, request: Request) -> Response:
        task = self._task(request)
        headers = {"Content-Disposition": 'attachment; filename="upscaled.zip"'}
        return StreamingResponse(archive(task), media_type="application/zip", headers=headers)

    @_answers
    async def networks(self, request: Request) -> Response:
        task = self._task(request)
        if task.page is None:
            raise _MissingError("the networks have not been compared yet")
        headers = {"Content-Security-Policy": _FRAME_POLICY}
        return FileResponse(task.page, media_type="text/html", headers=headers)

    @_answers
    async def result(self, request: Request) -> Response:
        file = self._file(request)
        assert file.output is not None
        kind = await to_thread.run_sync(media_type, file.output)
        return FileResponse(file.output, media_type=kind, filename=printable(file.output.name))

    @_answers
    async def comparison(self, request: Request) -> Response:
        file = self._file(request)
        parts = await to_thread.run_sync(before_after, file)
        headers = {"Content-Security-Policy": _FRAME_POLICY}
        return Response(parts, media_type="text/html; charset=utf-8", headers=headers)

    async def _start(self, request: Request, *, is_preview: bool) -> Response:
        body = await _body(request)

        def start() -> list[Task]:
            form, uploads = body.get("settings"), body.get("uploads")
            return self._application.start(form, uploads, is_preview=is_preview)

        tasks = await to_thread.run_sync(start)
        return JSONResponse([task.record() for task in tasks], 201)

    def _task(self, request: Request) -> Task:
        task = self._application.queue.get(request.path_params["id"])
        if task is None:
            raise _MissingError("there is no such task any more")
        return task

    def _file(self, request: Request) -> TaskFile:
        file = self._application.find_file(request.path_params["id"])
        if file is None or file.output is None or not file.output.is_file():
            raise _MissingError("there is no such file any more")
        return file


def _upload_record(upload: Upload) -> dict[str, object]:
    return {
        "id": upload.id,
        "name": upload.name,
        "size": upload.size,
        "is_video": upload.is_video,
    }


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        UsageError: It is too long, or no object.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MOST_JSON_BYTES:
            raise UsageError("the request is too long")
    try:
        body = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise UsageError("the request is not JSON") from error
    if not isinstance(body, dict):
        raise UsageError("the request is not an object")
    return cast(dict[str, Any], body)
