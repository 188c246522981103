"""Embedding once: a tiny CLIP with random weights, and any other network, by one interface."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmcore
from mmcore import RequestError
from mmcore.data import DataOptions, EmbedOptions, Rows, open_data
from mmcore.data.embed import Cache, embed_column
from mmcore.data.opening import embed

transformers = pytest.importorskip("transformers", reason="the extra mmcore-clip[model]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("clip")
    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    text = {
        **part,
        "vocab_size": len(words),
        "max_position_embeddings": 12,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {**part, "image_size": 16, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(at)
    (at / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (at / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(at / "vocab.json"), str(at / "merges.txt")).save_pretrained(at)
    pixels = {
        "size": {"shortest_edge": 16},
        "crop_size": {"height": 16, "width": 16},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (at / "preprocessor_config.json").write_text(json.dumps(pixels))
    return at


@pytest.fixture
def rows(tmp_path: Path) -> DataOptions:
    (tmp_path / "images").mkdir()
    rng = np.random.Generator(np.random.Philox(1))
    for i in range(7):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "labels.csv").write_text(
        "file,name\n" + "".join(f"{i},{'ab' if i % 2 else 'cd e'}\n" for i in range(8))
    )
    return DataOptions("folder", {"path": str(tmp_path)})


def test_images_and_texts_become_the_models_own_embeddings(folder: Path, rows: DataOptions, tmp_path: Path) -> None:
    registry = mmcore.discover()
    cache = str(tmp_path / "cache")
    wanted = (
        EmbedOptions("picture", "image", options={"folder": str(folder)}, cache=cache, batch_size=3),
        EmbedOptions("text", "name", options={"folder": str(folder), "kind": "text"}, cache=cache),
    )
    options = DataOptions(rows.source, rows.options, embed=wanted)
    variables = [registry.modality("clip", name=name, width=8) for name in ("picture", "text")]
    with pytest.raises(RequestError, match=r"found no vectors of 'picture'.*mmcore embed"):
        open_data(registry, options, variables)
    pictures, texts = embed(registry, options, quiet=True)
    assert (pictures.rows, pictures.missing, pictures.made, texts.made) == (8, 1, 7, 2)
    assert [report.made for report in embed(registry, options, quiet=True)] == [0, 0]
    batch = open_data(registry, options, variables).__getitems__(range(8))
    assert batch.present.tolist() == [*[[True, True]] * 7, [False, True]]
    # The model by itself, with the pixels prepared by hand: 20 × 24 to 16 × 19, the middle 16 columns.
    model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    image = Image.open(tmp_path / "images" / "4.png").resize((19, 16), Image.Resampling.BICUBIC).crop((1, 0, 17, 16))
    pixels = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        truth = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0]
    torch.testing.assert_close(batch.values["picture"][4], truth / truth.norm(), atol=1e-5, rtol=0)
    assert torch.equal(batch.values["text"][1], batch.values["text"][3])
    assert not torch.allclose(batch.values["text"][1], batch.values["text"][2])


class Halves:
    """An autoencoder's encoder, for all that the engine knows: the means of an image's halves, as a map."""

    def __init__(self, fails_after: int = 99) -> None:
        self.fingerprint, self.calls, self.left = "halves 1", 0, fails_after

    def __call__(self, values: Sequence[Any]) -> torch.Tensor:
        if self.left < len(values):
            raise KeyboardInterrupt
        self.left -= len(values)
        self.calls += len(values)
        x = torch.stack([torch.from_numpy(np.asarray(value)).float() for value in values])
        return torch.stack([x[:, :2].mean((1, 2)), x[:, 2:].mean((1, 2))], dim=1)[:, None]


def test_a_killed_run_goes_on_and_equal_values_are_embedded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmcore.data.embed.PART", 4)
    values = [np.full((4, 4), k % 9, np.float32) for k in range(12)]
    source = Rows([{"map": value} for value in values])
    with pytest.raises(KeyboardInterrupt):
        embed_column(source, "map", Halves(fails_after=5), Cache(tmp_path, "halves 1"), batch_size=2)
    again, cache = Halves(), Cache(tmp_path, "halves 1")
    assert len(cache) == 4
    report = embed_column(source, "map", again, cache, batch_size=2)
    assert (report.found, report.made, again.calls) == (4, 5, 5)
    from mmcore.data.embed import digest

    assert all((cache[digest(value)] == value[0, 0]).all() and cache[digest(value)].shape == (1, 2) for value in values)
    assert len(Cache(tmp_path, "halves 2")) == 0  # another network's vectors are others


def test_half_a_part_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "x")
    cache.add([b"a" * 16], np.zeros((1, 3), np.float32))
    next(cache.folder.glob("*.keys.npy")).unlink()
    assert len(Cache(tmp_path, "x")) == 0


def test_a_folder_without_a_model_and_a_row_without_a_vector_are_told(
    folder: Path, rows: DataOptions, tmp_path: Path
) -> None:
    registry = mmcore.discover()
    with pytest.raises(RequestError, match=r"found no config\.json"):
        registry.make("embedder", "clip", {"folder": str(tmp_path / "none")})
    one = EmbedOptions("picture", "image", options={"folder": str(folder)}, cache=str(tmp_path / "cache"))
    options = DataOptions(rows.source, rows.options, embed=(one,))
    embed(registry, options, quiet=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "5.png")
    with pytest.raises(RequestError, match=r"5, picture: found no vector of this image.*mmcore embed"):
        open_data(registry, options, [registry.modality("clip", name="picture", width=8)]).__getitems__([5])
