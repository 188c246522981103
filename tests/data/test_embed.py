"""The vectors that are kept on disk: what is damaged is told, and made anew where it is removed."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmcore import RequestError
from mmcore.data.embed import Cache

KEYS = [bytes([k]) * 16 for k in range(6)]
VECTORS = np.arange(12, dtype=np.float32).reshape(6, 2)


def kept(folder: Path) -> Cache:
    cache = Cache(folder, "an embedder")
    cache.add(KEYS[:4], VECTORS[:4])
    cache.add(KEYS[4:], VECTORS[4:])
    return cache


def test_vectors_are_found_again_by_their_keys(tmp_path: Path) -> None:
    written = kept(tmp_path)
    for cache in (written, Cache(tmp_path, "an embedder"), pickle.loads(pickle.dumps(written))):
        assert len(cache) == 6
        assert all(np.array_equal(cache[key], vector) for key, vector in zip(KEYS, VECTORS, strict=True))
    assert len(Cache(tmp_path, "another")) == 0


@pytest.mark.parametrize("kind", ["keys", "vectors"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(b""),
        lambda path: np.save(path, np.load(path)[:1]),
        lambda path: np.save(path, np.array([{}], object), allow_pickle=True),
    ],
    ids=["cut", "empty", "fewer", "objects"],
)
def test_a_damaged_part_is_named_and_the_others_are_kept(
    kind: str, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = kept(tmp_path).folder
    path = sorted(folder.glob(f"*.{kind}.npy"))[0]
    damage(path)
    keys = folder / path.name.replace(".vectors.", ".keys.")
    with pytest.raises(RequestError, match=f"vectors of {keys} damaged .*; remove it and run mmcore embed again"):
        Cache(tmp_path, "an embedder")
    keys.unlink()
    cache = Cache(tmp_path, "an embedder")
    assert 0 < len(cache) < 6
    lost = [(key, vector) for key, vector in zip(KEYS, VECTORS, strict=True) if key not in cache]
    cache.add([key for key, _ in lost], np.stack([vector for _, vector in lost]))
    again = Cache(tmp_path, "an embedder")
    assert all(np.array_equal(again[key], vector) for key, vector in zip(KEYS, VECTORS, strict=True))


def test_vectors_that_were_removed_are_told(tmp_path: Path) -> None:
    folder = kept(tmp_path).folder
    sorted(folder.glob("*.vectors.npy"))[0].unlink()
    with pytest.raises(RequestError, match=r"damaged .*No such file"):
        Cache(tmp_path, "an embedder")
