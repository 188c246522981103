"""The page in a browser: a class to pictures, a hole to a restored picture, a picture to a map; wrong files, two people, and who goes away."""

import base64
import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.play.browser.conftest import Server, Visit


def card(page: Any, name: str) -> Any:
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


def role(page: Any, name: str, wanted: str) -> None:
    card(page, name).locator(f'.role label:has(input[value="{wanted}"])').click()


def ask(page: Any) -> None:
    """Ask, and wait for another answer than the one that is there.

    A file whose name Gradio's own control shows may still be on its way: then it is asked again, as whoever reads that line does.
    """
    page.evaluate("() => document.querySelectorAll('.answers').forEach((one) => one.classList.add('old'))")
    wrong = ["no value yet"]
    for _ in range(40):
        page.locator("#ask").click()
        page.locator(".answers:not(.old), #status .error").first.wait_for()
        wrong = page.locator("#status .error").all_inner_texts()
        if not any("no value yet" in one for one in wrong):
            break
        page.wait_for_timeout(250)
    assert wrong == []


def answer(page: Any, name: str) -> Any:
    return page.locator(f'.answer[data-name="{name}"]')


def pictures(page: Any, name: str, kind: str = "draw") -> list[np.ndarray]:
    urls = answer(page, name).locator(f"figure.{kind} img").evaluate_all("(all) => all.map((one) => one.src)")
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]


def give(page: Any, name: str, file: str, data: bytes) -> None:
    card(page, name).locator("input[type=file]").set_input_files(
        {"name": file, "mimeType": "application/octet-stream", "buffer": data}
    )


def said(page: Any, name: str, text: str) -> None:
    card(page, name).locator(".said").filter(has_text=text).wait_for()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def draws(page: Any, count: int) -> None:
    page.locator("#draws input[type=number]").fill(str(count))
    page.locator("#draws input[type=number]").press("Tab")


def test_a_class_to_pictures_and_what_is_copied(page_of_run: Server, visit: Visit, home: Path) -> None:
    page = visit(page_of_run)
    assert page.locator(".card").count() == 5
    assert not card(page, "kind").locator(".control").is_visible()
    role(page, "kind", "given")
    card(page, "kind").locator(".control label").filter(has_text="dog").click()
    role(page, "vector", "left out")
    ask(page)
    found = pictures(page, "image")
    assert len(found) == 9
    assert {one.shape for one in found} == {(8, 12, 3)}
    assert answer(page, "image").locator("figure.map img").count() == 1
    assert answer(page, "mask").locator("figure.map").inner_text().startswith("draws that disagree")
    assert answer(page, "vector").count() == answer(page, "kind").count() == 0
    assert answer(page, "age").locator("svg circle").count() == 9
    page.locator("#elsewhere button").first.click()
    python = page.locator("#python .cm-content").inner_text()
    assert f'mmcore.Reader.open("{home / "run"}")' in python
    assert 'given={"kind": ["dog"]}' in python
    assert 'absent=["vector"]' in python
    assert "--given kind=dog" in page.locator("#command .cm-content").inner_text()
    page.locator("#how button").first.click()
    seed = page.locator("#seed input").input_value()
    assert f"seed={seed}," in python


@pytest.mark.parametrize("width", [1280, 390])
def test_a_photo_with_a_brushed_hole_is_restored_there_and_nowhere_else(
    width: int, page_of_run: Server, visit: Visit
) -> None:
    page = visit(page_of_run, width)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    role(page, "image", "given")
    give(page, "image", "photo.png", png(pixels))
    said(page, "image", "photo.png")
    board = card(page, "image").locator("canvas")
    card(page, "image").get_by_role("button", name="unknown").click()
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    # Over the middle of the fourth row, from the third to the ninth column.
    y = box["y"] + box["height"] * 3.5 / 8
    page.mouse.move(box["x"] + box["width"] * 2.5 / 12, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 8.5 / 12, y, steps=6)
    page.mouse.up()
    draws(page, 4)
    ask(page)
    assert "filled in where it was unknown" in answer(page, "image").inner_text()
    hole = np.zeros((8, 12), dtype=bool)
    hole[3, 2:9] = True
    for one in pictures(page, "image"):
        assert np.array_equal(one[~hole], pixels[~hole])
        assert not np.array_equal(one[hole], pixels[hole])
    # Nobody has to scroll sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#ask").is_visible()


def test_a_picture_to_its_map_beside_the_truth(page_of_run: Server, visit: Visit) -> None:
    page = visit(page_of_run)
    page.locator("#row input").fill("1")
    page.locator("#take").click()
    said(page, "image", "the row’s own")
    assert card(page, "image").locator('input[value="given"]').is_checked()
    draws(page, 7)
    ask(page)
    assert len(pictures(page, "mask")) == 7
    assert len(pictures(page, "mask", "truth")) == len(pictures(page, "mask", "together")) == 1
    share = np.mean([one[..., 0] > 127 for one in pictures(page, "mask")], axis=0)
    together = pictures(page, "mask", "together")[0][..., 0] > 127
    assert np.array_equal(together, share > 0.5)
    # White where all agree, and only there.
    agreed = (pictures(page, "mask", "map")[0] == 255).all(-1)
    assert np.array_equal(agreed, (share == 0) | (share == 1))
    assert "iou" in answer(page, "mask").locator(".scores").inner_text()
    # What is drawn over the row is no longer the row, and its truth no longer told.
    card(page, "image").locator("canvas").click()
    ask(page)
    assert pictures(page, "mask", "truth") == []


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n%%EOF\n"


def test_a_wrong_file_is_one_line_and_the_page_goes_on(page_of_run: Server, visit: Visit) -> None:
    page = visit(page_of_run)
    role(page, "image", "given")
    role(page, "vector", "given")
    numbers = io.BytesIO()
    np.save(numbers, np.full(20, np.nan, dtype=np.float32))
    for name, file, data, text in (
        ("image", "a.eps", EPS, "found a file .eps, expected .png"),
        ("image", "a.png", EPS, "no image format that is known"),
        ("image", "a.png", b"", "found 0 bytes"),
        ("vector", "a.npy", numbers.getvalue(), "found NaN or infinity"),
        ("vector", "a.npy", b"PK\x03\x04", "archive"),
    ):
        give(page, name, file, data)
        page.locator("#status .error").filter(has_text=text).wait_for()
        assert page.locator("#status .error").count() == 1
    page.locator("#ask").click()
    page.locator("#status .error").filter(has_text="image is given, but there is no value yet").wait_for()
    give(page, "image", "a.png", png(np.zeros((30, 20), dtype=np.uint8)))
    said(page, "image", "a.png")
    role(page, "vector", "wanted")
    ask(page)
    assert page.locator("#status .error").count() == 0
    # Too large for the browser to send at all.
    card(page, "image").locator("input[type=file]").evaluate(
        """(input) => {
          const chosen = new DataTransfer();
          chosen.items.add(new File([new ArrayBuffer(34 * 2 ** 20)], "large.png"));
          input.files = chosen.files;
          input.dispatchEvent(new Event("change"));
        }"""
    )
    said(page, "image", "has 36 MB, expected at most 34")


def test_surprises_ask_and_numbers_out_of_bounds_are_told(page_of_run: Server, visit: Visit) -> None:
    page = visit(page_of_run)
    page.locator("#surprise").click()
    page.locator(".answers").wait_for()
    assert page.locator('.role input[value="given"]:checked').count() >= 1
    page.locator("#row input").fill("999")
    page.locator("#take").click()
    page.locator("#status .error").filter(has_text="row 999: expected one of 0 …").wait_for()
    page.locator("#row input").fill("")
    page.locator("#take").click()
    page.locator("#status .error").filter(has_text="row: expected a whole number").wait_for()
    page.locator("#another").click()
    page.wait_for_function("() => document.querySelector('#row input').value !== ''")


def test_two_people_do_not_disturb_each_other(page_of_run: Server, visit: Visit) -> None:
    one, two = visit(page_of_run), visit(page_of_run)
    for page, shade in ((one, 0), (two, 255)):
        role(page, "image", "given")
        give(page, "image", "a.png", png(np.full((8, 12, 3), shade, dtype=np.uint8)))
        said(page, "image", "a.png")
        draws(page, 2)
    for page in (one, two):
        page.locator("#ask").click()
    for page, shade in ((one, 0), (two, 255)):
        page.locator(".answers").wait_for()
        page.locator("#elsewhere button").first.click()
        link = page.locator("#files a").first.get_attribute("href")
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))))
        assert (pixels == shade).all()


def counted(server: Server) -> int:
    counts = server.log.parent / "counts"
    return len(counts.read_bytes()) if counts.exists() else 0


def grown(server: Server, least: int) -> int:
    until = time.monotonic() + 30
    while (now := counted(server)) < least and time.monotonic() < until:
        time.sleep(0.05)
    assert now >= least
    return now


def at_rest(server: Server) -> None:
    """No step is taken for a second."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        before = counted(server)
        time.sleep(1)
        if counted(server) == before:
            return
    raise AssertionError("the work goes on")


def steps(page: Any, count: int) -> None:
    """Set the sampler's steps, once the slider is there and has its first value, and see that it is set."""
    number, sliding = "#steps input[type=number]", "#steps input[type=range]"
    page.locator("#how button").first.click()
    page.locator(sliding).wait_for()
    same = "([one, two, count]) => { const [a, b] = [one, two].map((at) => document.querySelector(at).value); return a && a === b && (!count || a == count); }"
    page.wait_for_function(same, arg=[number, sliding, 0])
    expired = pytest.importorskip("playwright.sync_api").TimeoutError
    # On a busy machine the slider may not listen yet when it is first there: a person types again.
    for last in (False, False, True):
        page.locator(number).fill(str(count))
        page.locator(number).press("Tab")
        with contextlib.nullcontext() if last else contextlib.suppress(expired):
            page.wait_for_function(same, arg=[number, sliding, count], timeout=30000 if last else 10000)
            return


def test_strange_plugins_have_controls_of_their_own_or_others(page_of_strangers: Server, visit: Visit) -> None:
    page = visit(page_of_strangers)
    notes = page.locator(".line.note").all_inner_texts()
    assert any("broken: its plugin's control cannot be used (MmcoreError: found str" in one for one in notes)
    assert any("No rows to begin with" in one for one in notes)
    assert page.locator("#take").count() == 0
    for name in ("dial", "plain", "broken", "table"):
        role(page, name, "given")
    assert card(page, "dial").get_by_text("pressure (bar)").is_visible()
    assert card(page, "plain").locator("input[type=number]").count() == 3
    give(page, "broken", "a.json", json.dumps([0.5] * 20).encode())
    said(page, "broken", "a.json")
    role(page, "plain", "wanted")
    steps(page, 2)
    draws(page, 3)
    # Of the table the age is given, and the kind is not: it is filled in.
    boxes = card(page, "table").locator("input[type=checkbox]")
    boxes.nth(0).check()
    ask(page)
    assert answer(page, "plain").count() == 1
    assert answer(page, "table").locator("h3").inner_text().startswith("table")
    role(page, "broken", "wanted")
    ask(page)
    # Nothing of a plugin's text is markup, or a template.
    assert "<img src=x onerror=alert(1)>${1+1}{{x}}" in answer(page, "broken").inner_text()
    assert page.locator("img[src=x]").count() == 0


def linked(page: Any, name: str) -> bytes:
    """What a file holds that the page offers beside its texts to copy."""
    link = page.locator(f'#files a[download="{name}"]').get_attribute("href")
    return base64.b64decode(link.partition(",")[2])


def stroke(page: Any, name: str, row: float, size: tuple[int, int]) -> None:
    """Draw with what is chosen over a whole row of a board of so many rows and columns."""
    board = card(page, name).locator("canvas")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    y = box["y"] + box["height"] * (row + 0.5) / size[0]
    page.mouse.move(box["x"] + 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, y, steps=size[1] * 2)
    page.mouse.up()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_strange_plugin_has_a_control_of_each_kind_and_reads_what_it_gives(
    width: int, page_of_strangers: Server, visit: Visit
) -> None:
    page = visit(page_of_strangers, width)
    given = ("tune", "gear", "lamps", "level", "still", "log", "chart")
    for name in given:
        role(page, name, "given")
    card(page, "tune").locator("textarea, input[type=text]").fill("gabc")
    assert card(page, "tune").get_by_placeholder("four of abcdefg").is_visible()
    card(page, "gear").locator(".control label").filter(has_text="onwards").click()
    for lamp in ("red", "blue"):
        card(page, "lamps").locator(".control label").filter(has_text=lamp).click()
    level = card(page, "level").locator("input[type=number]")
    level.fill("9")
    level.press("Tab")
    give(page, "still", "still.png", png(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)))
    said(page, "still", "still.png")
    give(page, "log", "log.json", json.dumps([0.5, 1, 0, -1, -0.5]).encode())
    said(page, "log", "log.json")
    card(page, "chart").get_by_role("button", name="sand").click()
    stroke(page, "chart", 2, (5, 6))
    steps(page, 2)
    draws(page, 3)
    ask(page)
    # What was given is what was entered: it stands in the texts to copy, and in the files beside them.
    page.locator("#elsewhere button").first.click()
    python = page.locator("#python .cm-content").inner_text()
    kept = {
        name: link for name in given for link in page.locator("#files a").all_inner_texts() if link.startswith(name)
    }
    for name, raw in (("tune", "gabc"), ("gear", "forward"), ("level", 9), ("log", [0.5, 1, 0, -1, -0.5])):
        written = json.dumps(raw) in python if name not in kept else json.loads(linked(page, kept[name])) == raw
        assert written, (name, python)
    assert np.load(io.BytesIO(linked(page, kept["lamps"]))).tolist() == [True, False, True]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(linked(page, kept["still"]))))[:, 1], [10, 70, 130, 190])
    painted = np.asarray(Image.open(io.BytesIO(linked(page, kept["chart"]))))
    assert set(painted[2]) == {2}
    assert set(painted[[0, 1, 3, 4]].reshape(-1)) == {0}
    # And asked for, each is shown.
    for name in given:
        role(page, name, "wanted")
    ask(page)
    for name in given:
        assert answer(page, name).count() == 1
    assert len(pictures(page, "still")) == len(pictures(page, "chart")) == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A text that is none of the plugin's is a line of the plugin's own.
    role(page, "tune", "given")
    card(page, "tune").locator("textarea, input[type=text]").fill("xyz")
    page.locator("#ask").click()
    page.locator("#status .error").filter(has_text="found 'xyz', expected four of abcdefg").wait_for()


def test_the_stop_button_and_a_browser_that_goes_away_end_the_work(page_of_strangers: Server, visit: Visit) -> None:
    page = visit(page_of_strangers)
    steps(page, 100)
    before = counted(page_of_strangers)
    page.locator("#ask").click()
    page.locator("#status .progress").wait_for()
    page.locator("#status").filter(has_text="of 100").wait_for()
    grown(page_of_strangers, before + 3)
    page.locator("#stop").click()
    page.locator("#status").filter(has_text="Stopped.").wait_for()
    at_rest(page_of_strangers)
    assert page.locator(".answers").count() == 0
    page.locator("#ask").click()
    now = grown(page_of_strangers, counted(page_of_strangers) + 3)
    page.close()
    at_rest(page_of_strangers)
    assert counted(page_of_strangers) < now + 60


def test_ctrl_c_again_and_again_ends_in_silence(home: Path, visit: Visit, tmp_path: Path) -> None:
    """A terminal sends it to the command and to whoever started it, who passes it on; and people press it twice."""
    server = Server(tmp_path / "serve.log", ["-m", "mmcore", "play", str(home / "run")])
    page = visit(server)
    page.locator("#ask").wait_for()
    assert server.end(4) == 0
    assert [line.split()[0] for line in server.text.splitlines()] == ["open"]
