"""The page, served."""

# pyright: reportMissingImports=false

import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcore.errors import OptionError, RequestError
from mmcore.limits import UPLOAD
from mmcore.play.memory import give_back
from mmcore.runs.reader import Reader

if TYPE_CHECKING:
    import uvicorn

LOCAL = ("127.0.0.1", "localhost", "::1")
PORTS = range(7860, 7960)


def prepare() -> None:
    """See to it that Gradio is here, and calls nobody.

    Raises:
        RequestError: it is not installed.
    """
    # Before its import: what it is told by the environment it reads then.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")
    os.environ["GRADIO_MCP_SERVER"] = "False"
    # It sums up its last events anew after each, by default the last ten thousand.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        missing = f" ({error.name})" if error.name not in (None, "gradio") else ""
        raise RequestError(f"play: gradio is not installed{missing}; pip install 'mmcore-diffusion[play]'") from error


def server(
    reader: Reader, place: str | Path, *, host: str = "127.0.0.1", port: int | None = None
) -> "tuple[uvicorn.Server, socket.socket]":
    """A server of the page, and the socket that it is to listen at.

    Args:
        reader: of the model.
        place: of the run or model, as commands call it.
        host: an address of this machine; ``"0.0.0.0"`` for all of them.
        port: by default the first that is free from 7860.

    Raises:
        RequestError: Gradio is not installed, or the address cannot be had.
    """
    prepare()
    import fastapi
    import gradio as gr
    import uvicorn
    from gradio.themes import Default

    from mmcore.play.guard import BODY, Guard
    from mmcore.play.layout import build
    from mmcore.play.page import Page
    from mmcore.play.widgets import style

    at = listening(host, port)
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        build(Page(reader, place)),
        "/",
        theme=Default(primary_hue="rose", neutral_hue="slate", **fonts),
        css=style(),
        js=_LIGHT,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        allowed_paths=[],
    )
    # A file travels as base64, beside what is drawn.
    guard = Guard(app, LOCAL if _is_loopback(host) else None, 2 * UPLOAD.most + BODY)
    config = uvicorn.Config(guard, log_level="warning", ws="none", access_log=False, timeout_graceful_shutdown=2)

    class Server(uvicorn.Server):
        """Lets go of open pages before it waits for them, and ends in silence, however often it is interrupted."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # A second interrupt, as whoever started the command may pass one on, would cut the orderly end, of two seconds at
            # most, and print where it was. Only the main thread may listen to signals.
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            ended = False

            def ending(number: int, frame: Any) -> None:
                nonlocal ended
                ended = ended or number == signal.SIGTERM
                self.should_exit = True

            former = {number: signal.signal(number, ending) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in former.items():
                    signal.signal(number, handler)
                if ended:
                    signal.raise_signal(signal.SIGTERM)

        async def shutdown(self, sockets: Any = None) -> None:
            guard.closing.set()
            await super().shutdown(sockets)

    return Server(config), at


_LIGHT = """() => {
  if (document.body.classList.contains("dark")) document.body.classList.remove("dark");
}"""


def serve(
    reader: Reader,
    place: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    say: Callable[[str], Any] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        reader: of the model.
        place: of the run or model.
        host: as :func:`server` has it.
        port: as :func:`server` has it.
        say: is told the page's address.

    Raises:
        RequestError: as :func:`server`.
    """
    made, at = server(reader, place, host=host, port=port)
    give_back()
    name, number = at.getsockname()[:2]
    shown = f"[{name}]" if ":" in name else name
    say(f"open http://{'localhost' if name in ('0.0.0.0', '::') else shown}:{number} in a browser; Ctrl-C ends it")
    if not _is_loopback(host):
        print(f"mmcore: note: whoever reaches {host} may ask this model", file=sys.stderr)
    made.run(sockets=[at])


def listening(host: str, port: int | None) -> socket.socket:
    """A socket at an address.

    Raises:
        RequestError: it cannot be had.
    """
    if port is not None and not 0 <= port < 65536:
        raise OptionError("play", "port", port, "a number in 0 … 65535")
    refused: OSError | None = None
    for number in PORTS if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            at = socket.socket(family, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise RequestError(f"play: --host {host!r} is no address of this machine ({error})") from error
        try:
            at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            at.bind((host, number))
            at.listen(128)
            return at
        except OSError as error:
            at.close()
            refused = error
            if error.errno not in _TAKEN:
                break
    tried = f"ports {PORTS[0]} … {PORTS[-1]}" if port is None else f"port {port}"
    raise RequestError(
        f"play: {host}, {tried}: {refused.strerror if refused else 'none is free'}; name another by --port"
    ) from refused


_TAKEN = (errno.EADDRINUSE, errno.EACCES)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
