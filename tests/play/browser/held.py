"""Serves the page of a run, visits it without a browser, and prints of how many people Gradio holds what their pages have shown.

python -m tests.play.browser.held RUN
"""

import http.client
import json
import sys
import threading
import time
from typing import Any


class Served:
    """A page in a thread of this process."""

    def __init__(self, run: str) -> None:
        from mmcore import Reader
        from mmcore.play import layout, serve

        build, self.blocks = layout.build, []
        layout.build = lambda page: self.blocks.append(build(page)) or self.blocks[0]
        server, at = serve.server(Reader.open(run, device="cpu"), run, port=0)
        self.port = at.getsockname()[1]
        threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True).start()
        found = json.loads(self.request("GET", "/config").getresponse().read())
        places = {one["props"].get("elem_id"): one["id"] for one in found["components"]}
        of = {
            target[0]: one["id"] for one in found["dependencies"] for target in one["targets"] if target[1] == "click"
        }
        self.surprise = of[places["surprise"]]

    def request(self, method: str, path: str, body: Any = None) -> http.client.HTTPConnection:
        """A request, sent."""
        sent = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        sent.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
        return sent

    def surprised(self, who: str) -> None:
        """Press "surprise me", and wait for what it puts on the page."""
        body = {"data": [], "fn_index": self.surprise, "session_hash": who}
        assert self.request("POST", "/gradio_api/queue/join", body).getresponse().status == 200
        told = self.request("GET", f"/gradio_api/queue/data?session_hash={who}").getresponse().read()
        assert b"process_completed" in told

    @property
    def held(self) -> int:
        """Of how many people."""
        return len(self.blocks[0].state_holder.session_data)


def main() -> None:
    """One who comes, stays and leaves; then many who come and never say goodbye."""
    served = Served(sys.argv[1])
    stays = served.request("GET", "/gradio_api/heartbeat/ann")
    answer = stays.getresponse()
    served.surprised("ann")
    counts = [served.held]
    answer.close()
    stays.close()
    until = time.monotonic() + 60
    while served.held and time.monotonic() < until:
        time.sleep(0.05)
    counts.append(served.held)
    for k in range(35):
        served.surprised(f"one{k}")
    print(json.dumps([*counts, served.held]), flush=True)


if __name__ == "__main__":
    main()
