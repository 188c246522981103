"""The plugin contract beside the checks: each sentence of it is on the page, with checks that there are, and each check is named."""

import inspect
import re
from pathlib import Path

from mmcore.modality import axes, base
from mmcore.modality.control import Controlled
from mmcore.modality.in_part import SeenInPart
from mmcore.testing.engine import ordered

PAGE = Path(__file__).parent.parent.parent / "docs" / "contract.md"
ROW = re.compile(r"^\| (.+?) \| (.+?) \|$")


def sentences() -> list[str]:
    """What the docstrings of a plugin's parts ask for, but for their arguments, results and errors."""
    found = []
    for thing in (
        base.Spec,
        base.Encoder,
        base.Decoder,
        base.LossTerm,
        base.Metric,
        base.Modality,
        SeenInPart,
        Controlled,
        axes.Growing,
    ):
        members = [member for name, member in vars(thing).items() if not name.startswith("_") or name == "__call__"]
        for member in [thing, *members]:
            member = member.fget if isinstance(member, property) else member
            if not (inspect.isfunction(member) or inspect.isclass(member)) or not member.__doc__:
                continue
            text = inspect.cleandoc(member.__doc__)
            text = re.split(r"\n\n(?:Args|Returns|Raises|Attributes):", text)[0]
            found += re.split(r"(?<=[.?])\s+(?=[A-Z`])", " ".join(text.split()))
    return [re.sub(":(?:meth|attr):`", "`", one).replace("|", "/") for one in found]


def rows() -> dict[str, list[str]]:
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if (match := ROW.match(line)) and not set(line) <= set("|- ") and match[1] != "the contract says":
            found[match[1]] = re.findall(r"`([a-z_]+\.[a-z_]+)`", match[2]) or [match[2]]
    return found


def test_each_sentence_of_the_contract_is_on_the_page() -> None:
    assert [one for one in sentences() if one not in rows()] == []


def test_each_check_is_there_and_named() -> None:
    ids = {check.id for check in ordered("modality")}
    named = {id_ for checks in rows().values() for id_ in checks if "." in id_ and " " not in id_}
    networks = {check.id for check in ordered("backbone")}
    assert named - ids - networks == set()
    assert ids - named == set()
