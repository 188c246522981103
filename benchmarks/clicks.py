"""Random clicks, drawings, typings and uploads on the page of a run, by several people at once: what its log says, and its memory.

python -m benchmarks.clicks RUN --minutes 20 [--people 3] [--seed 0]

Needs gradio, playwright and a Chromium. The page is served in a process of its own. It ends with status 1 where the log has a traceback, the page
has stopped to answer, or memory goes on growing: more than a fifth from the end of the first third to the end.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PATIENCE = 180_000
"""Milliseconds that a page may take to appear, and a last answer: on a machine that does much else, too."""
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n%%EOF\n"


def uploads(dice: random.Random) -> tuple[str, bytes]:
    """A file's name and bytes: healthy, or hostile."""
    side = dice.choice([1, 7, 8, 28, 300, 1500])
    picture = Image.effect_noise((side, dice.choice([side, 8, 41])), 90)
    buffer = io.BytesIO()
    kind = dice.randrange(9)
    if kind < 3:
        mode = dice.choice(["L", "RGB", "RGBA", "P", "1", "CMYK"])
        suffix = "tiff" if mode == "CMYK" else "png"
        picture.convert(mode).save(buffer, format=suffix.upper())
        return f"a.{suffix}", buffer.getvalue()
    if kind == 3:
        np.save(buffer, np.random.default_rng(side).normal(size=dice.choice([20, 8, 64])).astype(np.float32))
        return "a.npy", buffer.getvalue()
    if kind == 4:
        np.save(buffer, np.full(20, dice.choice([np.nan, np.inf, 1e30]), dtype=np.float32))
        return "a.npy", buffer.getvalue()
    if kind == 5:
        return dice.choice(["a.eps", "a.png", "a.jpg", "a.svg", "a"]), EPS
    if kind == 6:
        picture.save(buffer, format="PNG")
        return "a.png", buffer.getvalue()[: dice.randrange(len(buffer.getvalue()))]
    if kind == 7:
        return dice.choice(["a.json", "a.npy", "../../a.png"]), dice.randbytes(dice.randrange(5000))
    return "a.png", bytes(dice.choice([0, 10, 2**20]))


def act(page: Any, dice: random.Random) -> str:
    """One thing that a person may do; its name."""
    what = dice.choices(
        [
            "role",
            "ask",
            "stop",
            "surprise",
            "another",
            "take",
            "file",
            "draw",
            "type",
            "choose",
            "tool",
            "reload",
            "fold",
        ],
        [6, 6, 2, 3, 2, 2, 5, 6, 4, 3, 3, 0.5, 1],
    )[0]
    if what in ("ask", "stop", "surprise", "another", "take"):
        page.locator(f"#{what}").click(timeout=3000)
        if what == "ask" and dice.random() < 0.5:
            page.wait_for_timeout(dice.choice([50, 500, 3000]))
    elif what == "role":
        _one(page.locator(".role label"), dice).click(timeout=3000)
    elif what == "file":
        name, data = uploads(dice)
        found = page.locator(".control:visible input[type=file]")
        if found.count():
            file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
            _one(found, dice).set_input_files(file, timeout=3000)
    elif what == "draw":
        found = page.locator("canvas:visible")
        if found.count():
            canvas = _one(found, dice)
            canvas.scroll_into_view_if_needed(timeout=3000)
            box = canvas.bounding_box()
            at = lambda: (box["x"] + box["width"] * dice.random(), box["y"] + box["height"] * dice.random())  # noqa: E731
            page.mouse.move(*at())
            page.mouse.down()
            page.mouse.move(*at(), steps=4)
            page.mouse.up()
    elif what == "type":
        found = page.locator("input[type=number]:visible, textarea:visible")
        if found.count():
            one = _one(found, dice)
            one.fill(dice.choice(["0", "-1", "3", "1e9", "99999999999", "0.5", "64", ""]), timeout=3000)
            one.press("Tab", timeout=3000)
    elif what == "choose":
        found = page.locator(".control:visible label:has(input[type=radio]), .control:visible input[type=checkbox]")
        if found.count():
            _one(found, dice).click(timeout=3000)
    elif what == "tool":
        found = page.locator(".tools button:visible")
        if found.count():
            _one(found, dice).click(timeout=3000)
    elif what == "fold":
        page.locator(dice.choice(["#how button", "#elsewhere button"])).first.click(timeout=3000)
    else:
        page.reload()
        page.locator("#ask").wait_for()
    return what


def _one(found: Any, dice: random.Random) -> Any:
    return found.nth(dice.randrange(max(1, found.count())))


def memory(process: int) -> float:
    """Megabytes that a process holds, by Linux."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> int:
    """Click, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    from playwright.sync_api import Error, sync_playwright  # pyright: ignore[reportMissingImports]

    folder = Path(tempfile.mkdtemp())
    log = folder / "serve.log"
    command = [sys.executable, "-m", "mmcore", "play", asked.run, "--port", "0"]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    while "open http" not in log.read_text() and server.poll() is None:
        time.sleep(0.2)
    url = log.read_text().partition("open ")[2].split()[0]
    counts: dict[str, int] = {}
    missed, answers, wrong, held = 0, 0, [], []
    with contextlib.ExitStack() as stack:
        # Whatever happens here, the server goes too.
        stack.callback(lambda: server.poll() is None and server.send_signal(signal.SIGINT))
        driver = stack.enter_context(sync_playwright())
        opened = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=opened, args=["--no-sandbox"])
        dice = random.Random(asked.seed)

        def arrive() -> Any:
            page = browser.new_context(viewport={"width": dice.choice([390, 1280]), "height": 900}).new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: wrong.append(str(error)[:200]))
            page.goto(url)
            page.locator("#ask").wait_for()
            return page

        people = [arrive() for _ in range(asked.people)]
        begun = told = time.monotonic()
        while time.monotonic() - begun < 60 * asked.minutes and server.poll() is None:
            place = dice.randrange(len(people))
            try:
                what = act(people[place], dice)
                counts[what] = counts.get(what, 0) + 1
                answers += people[place].locator(".answers").count()
            except Error:  # a button below another thing, a page that is just drawn anew
                missed += 1
            if dice.random() < 0.01:
                # Gone, perhaps while its question is answered; another comes.
                people[place].context.close()
                people[place] = arrive()
            if time.monotonic() - told > 15:
                told = time.monotonic()
                held.append(memory(server.pid))
                print(f"{(told - begun) / 60:5.1f} min  {sum(counts.values()):6} acts  {held[-1]:.0f} MB", flush=True)
        # After all that it still answers.
        last = arrive()
        last.locator("#ask").click()
        last.locator(".answers").wait_for()
        browser.close()
    server.wait(120)
    text = log.read_text()
    if "Traceback" in text:
        print(f"the log is kept: {log}")
    else:
        shutil.rmtree(folder)
    third = held[len(held) // 3] if held else 0.0
    growth = held[-1] / third - 1 if third else 0.0
    print(f"acts: {counts}; {missed} missed; answers seen {answers} times")
    print(
        f"tracebacks in the log: {text.count('Traceback')}; lines in it: {len(text.splitlines())}; errors in the browser: {len(wrong)} {wrong[:3]}"
    )
    print(
        f"memory: {held[0] if held else 0:.0f} MB at first, {third:.0f} after a third, {held[-1] if held else 0:.0f} at the end ({growth:+.1%})"
    )
    return int("Traceback" in text or growth > 0.2)


if __name__ == "__main__":
    sys.exit(main())
