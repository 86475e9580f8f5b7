"""The command `upscale app`: the same tool in a browser window."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import shared_options as shared
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, switch
from upscale.errors import DependencyError, ExitCode, UsageError
from upscale.files.printable import printable

if TYPE_CHECKING:
    from upscale.app.security import Access
    from upscale.app.uploads import UploadLimits

TOKEN_VARIABLE = "UPSCALE_APP_TOKEN"
_SERVER = "Server"
_LARGEST_PORT = 65535
_KEPT_UPLOADS = 4
"""Size of all uploads together, in sizes of the largest one."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command("app")
def browser_app(
    *,
    output: Annotated[
        Path | None,
        shared.output("FOLDER", "Folder that the page offers to save results to. Default: results "
                      "are downloads."),
    ] = None,
    host: Annotated[
        str,
        option("--host", metavar="ADDRESS", panel=_SERVER,
               help="Address to listen on. Any other than the default can be reached from other "
               "machines and needs a token. Default: 127.0.0.1."),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        option("--port", metavar="N", min=0, max=_LARGEST_PORT, panel=_SERVER,
               help="Port to listen on. Default: a free one."),
    ] = 0,
    token: Annotated[
        str | None,
        option("--token", metavar="TEXT", panel=_SERVER, envvar=TOKEN_VARIABLE,
               help="Secret that the address contains, at least 16 characters. Other users can see "
               f"it in the list of processes: set {TOKEN_VARIABLE} instead. Default: a random "
               "one."),
    ] = None,
    max_upload: Annotated[
        str,
        option("--max-upload", metavar="BYTES", panel=_SERVER,
               help="Reject files that are larger. Four times as much may be kept at a time. "
               "Default: 16G."),
    ] = "16G",
    no_browser: Annotated[
        bool,
        switch("--no-browser", panel=_SERVER, help="Print the address without opening a browser."),
    ] = False,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Upscale in a browser window: drop images, folders or videos on a page.

    The server runs on this machine until you press Ctrl+C. Uploads and results that were not saved
    are then deleted.
    """

    def action(session: Session) -> int:
        session.verbose = bool(verbose)
        _check_packages()
        return _serve(
            session,
            host=host,
            port=port,
            token=token,
            output=output,
            max_upload=max_upload,
            opens_browser=not no_browser,
        )

    return action


def _check_packages() -> None:
    for name in ("starlette", "uvicorn"):
        try:
            __import__(name)
        except ImportError as error:
            raise DependencyError(
                f"the app needs the package {name}; run: python -m pip install 'upscale[app]'"
            ) from error


def _serve(
    session: Session,
    *,
    host: str,
    port: int,
    token: str | None,
    output: Path | None,
    max_upload: str,
    opens_browser: bool,
) -> int:
    """Serve until Ctrl+C and return the exit code."""
    import secrets

    from upscale.app.application import Application
    from upscale.app.security import Access, is_loopback
    from upscale.app.server import listen, serve
    from upscale.app.workspace import Workspace

    if not is_loopback(host) and token is None:
        raise UsageError(
            f"--host {printable(host)}: other machines could use the server: set {TOKEN_VARIABLE} "
            "to a secret of at least 16 characters"
        )
    limits = _limits(max_upload)
    folder = None if output is None else _checked_folder(output)
    with listen(host, port) as listener:
        access = Access(token or secrets.token_urlsafe(24), host, listener.getsockname()[1])
        workspace = Workspace()
        application = Application(
            workspace, session.environ, limits, save_folder=folder, any_folder=is_loopback(host)
        )
        try:
            with suppress(KeyboardInterrupt):
                serve(application, access, listener, lambda: _open(session, access, opens_browser))
            session.say("stopping: uploads and results that were not saved are deleted")
        finally:
            application.close()
            workspace.close()
    return int(ExitCode.DONE)


def _limits(max_upload: str) -> UploadLimits:
    from upscale.app.uploads import UploadLimits
    from upscale.options import parse_bytes

    size = parse_bytes("--max-upload", max_upload)
    return UploadLimits(file_bytes=size, total_bytes=_KEPT_UPLOADS * size)


def _checked_folder(folder: Path) -> Path:
    """Return the full path of the folder for results.

    Raises:
        UsageError: It is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {printable(folder)}: is not a folder")
    return folder.absolute()


def _open(session: Session, access: Access, opens_browser: bool) -> None:
    """Print the address, and open it in a browser if there is a screen."""
    session.out(access.url)
    session.say("press Ctrl+C to stop")
    if opens_browser and _has_screen(session.environ):
        import webbrowser

        # Some browsers do not return, and the server must answer them.
        Thread(target=webbrowser.open, args=(access.url_for_once,), daemon=True).start()


def _has_screen(environ: Mapping[str, str]) -> bool:
    """Return whether a browser with a window can start; others would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
