"""What stands before the page: whatever is not its own is not answered, whoever it is not for is refused, and no browser fetches elsewhere."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mmcore.play.guard import Guard
from mmcore.play.serve import LOCAL, listening


async def page(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"page"})


def call(
    path: str = "/",
    *,
    host: str = "localhost:7860",
    body: tuple[bytes, ...] = (b"",),
    length: str | None = None,
    hosts: Any = LOCAL,
) -> tuple[int, bytes, dict[bytes, bytes]]:
    sent: list[Any] = []
    parts = [{"type": "http.request", "body": one, "more_body": k + 1 < len(body)} for k, one in enumerate(body)]
    headers = [(b"host", host.encode())] + ([] if length is None else [(b"Content-Length", length.encode())])

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    guard, scope = Guard(page, hosts, body=1000), {"type": "http", "path": path, "headers": headers}
    # In a thread of its own: Playwright, in the same process, keeps a loop running.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(guard(scope, receive, send))).result()
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/join", "/gradio_api/heartbeat/abc"]
)
def test_the_pages_own_paths_are_answered_and_fetch_nothing_elsewhere(path: str) -> None:
    status, body, headers = call(path)
    assert (status, body) == (200, b"page")
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/upload",
        "/gradio_api/proxy=http://example.com",
        "/gradio_api/run/predict",
        "/gradio_api/component_server",
        "/gradio_api/queue/../file=/etc/passwd",
        "/static/../../x",
        "/login",
        "/svelte/x",
        "/monitoring",
        "//config",
        "",
    ],
)
def test_whatever_else_the_library_offers_is_shut(path: str) -> None:
    assert call(path)[:2] == (404, b"nothing here")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "", "127.0.0.1.evil.example:1"]
)
def test_a_name_that_only_leads_here_is_refused(host: str) -> None:
    assert call(host=host)[0] == 403
    assert call(host=host, hosts=None)[0] == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:7860", "[::1]:7860"])
def test_this_machine_is_not(host: str) -> None:
    assert call(host=host)[0] == 200


def test_a_body_that_is_too_long_is_refused_whatever_it_says_of_itself() -> None:
    assert call(body=(b"x" * 400, b"x" * 600))[0] == 200
    assert call(body=(b"x" * 400, b"x" * 601))[0] == 413
    assert call(length="1001")[0] == 413
    assert call(length="-1")[0] == 413
    assert call(length="9" * 5000)[0] == 413


def test_an_address_that_cannot_be_had_is_a_line() -> None:
    from mmcore import RequestError

    first = listening("127.0.0.1", 0)
    number = first.getsockname()[1]
    with first, pytest.raises(RequestError, match=rf"play: 127.0.0.1, port {number}: .*; name another by --port"):
        listening("127.0.0.1", number)
    with listening("127.0.0.1", None) as one, listening("127.0.0.1", None) as two:
        assert one.getsockname()[1] < two.getsockname()[1]
    for host in ("nosuch.invalid", "203.0.113.7", "x" * 300):
        with pytest.raises(RequestError, match="play: "):
            listening(host, 0)
    with pytest.raises(RequestError, match="port = 65536"):
        listening("127.0.0.1", 65536)


def test_without_gradio_one_line_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from mmcore.cli import program

    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["mmcore", "play", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "mmcore: play: gradio is not installed; pip install 'mmcore-diffusion[play]'\n"


def test_who_still_waits_is_let_go_where_the_page_ends() -> None:
    async def ends() -> Any:
        found: list[Any] = []

        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            while not found or found[-1]["type"] != "http.disconnect":
                found.append(await receive())

        async def receive() -> Any:
            if not found:
                return {"type": "http.request", "body": b""}
            return await asyncio.Event().wait()

        guard = Guard(waiting, None)
        asked = asyncio.ensure_future(guard({"type": "http", "path": "/", "headers": []}, receive, None))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert not asked.done()
        guard.closing.set()
        await asyncio.wait_for(asked, 5)
        return found

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: asyncio.run(ends())).result()
    assert [one["type"] for one in found] == ["http.request", "http.disconnect"]
