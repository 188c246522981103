"""A question of the page: what Python and the command line answer to what is copied from it is the page's own answer."""

import random
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mmcore import Reader, RequestError
from mmcore.cli import program
from mmcore.play.question import GIVEN, LEFT_OUT, WANTED, Part, Question, allowed
from mmcore.play.rows import Held, surprise
from mmcore.play.values import value_of

NAMES = ("image", "mask", "kind", "age", "vector")


def question(reader: Reader, parts: dict[str, Part], **changes: Any) -> Question:
    whole = {name: parts.get(name, Part(WANTED)) for name in NAMES}
    asked = {"draws": 3, "guidance": 1, "how": {"sampler": "2m", "steps": 3, "seed": 11, "draw": True}} | changes
    return Question.checked(reader.model, whole, **asked)


def given(reader: Reader, name: str, raw: Any, known: np.ndarray | None = None) -> Part:
    return Part(GIVEN, value_of(reader.model.variable(name), raw), known)


def questions(reader: Reader) -> dict[str, Question]:
    held = Held.of(reader)
    values, _ = next(row for row in (held.row(k) for k in range(len(held))) if "age" in row[0])
    hole = np.ones((24, 36), dtype=bool)
    hole[4:20, 10:30] = False
    small = np.ones((8, 12), dtype=bool)
    small[2:5] = False
    photo = Image.effect_noise((36, 24), 90).convert("RGB")
    return {
        "nothing given": question(reader, {}),
        "a word": question(reader, {"kind": given(reader, "kind", "7"), "vector": Part(LEFT_OUT)}, guidance=2.5),
        "a number": question(
            reader, {"age": given(reader, "age", 0.1)}, how={"sampler": "auto", "seed": 0, "draw": False}
        ),
        "a row": question(reader, {n: Part(GIVEN, values[n]) for n in ("image", "age", "vector")}, guidance=1.5),
        "a photo with a hole": question(
            reader, {"image": given(reader, "image", photo, hole), "kind": given(reader, "kind", "dog")}
        ),
        "a map with a hole": question(reader, {"mask": Part(GIVEN, values["mask"], small), "age": Part(LEFT_OUT)}),
    }


@pytest.mark.parametrize(
    "which", ["nothing given", "a word", "a number", "a row", "a photo with a hole", "a map with a hole"]
)
def test_what_is_copied_answers_the_same(
    which: str, reader: Reader, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(reader)[which]
    answer = asked.asked(reader).values
    assert set(asked.wanted) <= answer.keys()
    for name, data in asked.files().items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)

    scope: dict[str, Any] = {}
    exec(asked.python(str(home / "run")), scope)
    same(scope["answer"], answer)

    words = shlex.split(asked.command(str(home / "run")).replace("\\\n", ""))
    assert words[:2] == ["mmcore", "sample"]
    monkeypatch.setattr(sys, "argv", [*words, "--device", "cpu", "-o", "out"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 0
    same(load_file("out/samples.safetensors"), answer)


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_what_is_brushed_is_filled_in_and_the_rest_stays(reader: Reader) -> None:
    asked = questions(reader)["a map with a hole"]
    part = asked.parts["mask"]
    assert part.value is not None
    truth = reader.asked({"mask": [part.value.raw]}).tensors["mask"]
    answer = asked.asked(reader).values["mask"]
    known = torch.from_numpy(part.known)
    assert torch.equal(answer[:, known], truth[:, known].expand(3, -1))
    assert "mask" in asked.wanted
    assert asked.scales == {}


def test_places_and_names_cannot_break_the_line(reader: Reader) -> None:
    place = 'a b"; rm -rf $(x)\n'
    line = question(reader, {"kind": given(reader, "kind", "cat")}).command(place)
    assert shlex.split(line.replace("\\\n", ""))[2] == place
    code = question(reader, {}).python(place)
    assert compile(code, "", "exec")
    assert repr(place)[1:-1].replace("'", '"') in code or "\\n" in code


@pytest.mark.parametrize(
    ("parts", "changes", "text"),
    [
        ({"kind": Part(GIVEN)}, {}, "kind is given, but there is no value yet"),
        ({name: Part(LEFT_OUT) for name in NAMES}, {}, "nothing is wanted"),
        ({"kind": Part("maybe")}, {}, "kind: found 'maybe', expected one of given, wanted, left out"),
        ({}, {"draws": 65}, "draws = 65, expected a whole number in 1 … 64"),
        ({}, {"draws": None}, "draws = None"),
        ({}, {"draws": True}, "draws = True"),
        ({}, {"guidance": float("nan")}, "guidance = nan"),
        ({}, {"guidance": "2"}, "guidance = '2'"),
        ({}, {"how": {"steps": 10**9}}, "steps = 1000000000"),
        ({}, {"how": {"seed": -1}}, "seed = -1"),
        ({}, {"how": {"seed": float("inf")}}, "seed = inf"),
    ],
)
def test_what_cannot_be_asked_is_told(parts: dict[str, Part], changes: Any, text: str, reader: Reader) -> None:
    with pytest.raises(RequestError, match=text):
        question(reader, parts, **changes)


def test_a_sampler_that_there_is_not_is_told(reader: Reader) -> None:
    with pytest.raises(RequestError, match="sampler = 'nosuch'"):
        question(reader, {}, how={"sampler": "nosuch"}).asked(reader)


def test_a_surprise_gives_something_and_wants_something(reader: Reader) -> None:
    seen = set()
    for seed in range(200):
        found = surprise(random.Random(seed), NAMES, NAMES)
        assert 1 <= len(found) < len(NAMES)
        seen |= found
    assert seen == set(NAMES)
    assert surprise(random.Random(0), ["a"], ["a"]) == set()
    assert surprise(random.Random(0), ["a"], ["b"]) == {"a"}
    assert surprise(random.Random(0), [], ["b"]) == set()
    assert allowed(reader.model, "image") == [GIVEN, WANTED, LEFT_OUT]
