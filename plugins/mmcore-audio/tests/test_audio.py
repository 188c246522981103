"""Sounds: what is read, what is refused, and spectrograms against what is known of tones."""

import io
import math
import tomllib
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import OptionError, RequestError
from mmcore.config import configured
from mmcore.config.guess import configuration
from mmcore.runs.run import train
from mmcore.testing import run
from mmcore_audio import AudioModality
from mmcore_audio.files import wav, waves
from mmcore_audio.spectrum import Mel

RATE, LENGTH = 1000, 40
TONE = (0.5 * np.sin(np.arange(LENGTH) / 3)).astype(np.float32)


def written(x: np.ndarray, width: int, rate: int = RATE) -> bytes:
    """A WAV file of whole numbers of so many bytes, written number by number."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(len(x))
        file.setsampwidth(width)
        file.setframerate(rate)
        numbers = np.rint(x.T.reshape(-1).astype(np.float64) * (2 ** (8 * width - 1) - 1)).astype(int)
        numbers = numbers + 128 if width == 1 else numbers
        file.writeframes(b"".join(int(k).to_bytes(width, "little", signed=width > 1) for k in numbers))
    return data.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files_of_any_depth_are_read(width: int, channels: int) -> None:
    x = np.stack([TONE, -TONE / 2])[:channels]
    found, rate = waves(written(x, width))
    assert (rate, found.shape) == (RATE, x.shape)
    np.testing.assert_allclose(found, x, atol=1.1 / 2 ** (8 * width - 1) + 1e-7)


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("WAV", "FLOAT"), ("OGG", "VORBIS")])
def test_other_files_are_read_by_soundfile(kind: str, subtype: str, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="the extra mmcore-audio[files] is not installed")
    rate, x = 8000, 0.5 * np.sin(np.arange(800) / 5)
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, x, rate, format=kind, subtype=subtype)
    m = AudioModality(rate, 0.1)
    found = m.read(path)[0].numpy()
    exact = {"FLAC": 2**-15, "WAV": 1e-6, "OGG": 0.05}[kind]
    np.testing.assert_allclose(found, x, atol=exact)
    assert torch.equal(m.read(path.read_bytes()), m.read(path))


def test_what_is_written_plays_and_is_read_again(tmp_path: Path) -> None:
    m = AudioModality(RATE, LENGTH / RATE, channels=2)
    x = torch.from_numpy(np.stack([TONE, TONE[::-1]]))
    (tmp_path / "x.wav").write_bytes(m.raw(x).data)
    assert m.raw(x).suffix == ".wav"
    torch.testing.assert_close(m.read(tmp_path / "x.wav"), x, atol=1e-4, rtol=0)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE, LENGTH)


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        (TONE, TONE),
        (TONE.tolist(), TONE),
        (torch.from_numpy(TONE)[None], TONE),
        (TONE[:, None], TONE),
        (np.stack([TONE, 0 * TONE], 1), TONE / 2),
        ((TONE * 32768).astype(np.int16), np.trunc(TONE * 32768) / 32768),
        ({"array": TONE, "sampling_rate": RATE, "path": None}, TONE),
    ],
)
def test_arrays_are_read(raw: Any, want: np.ndarray) -> None:
    np.testing.assert_allclose(AudioModality(RATE, LENGTH / RATE).read(raw)[0], want, atol=1e-6)


def test_lengths_fit_where_it_is_said() -> None:
    m = AudioModality(RATE, 0.05, fit=True)
    assert m.read(TONE)[0].tolist() == [*TONE.tolist(), *[0.0] * 10]
    assert m.read(np.tile(TONE, 3))[0].tolist() == np.tile(TONE, 2)[:50].tolist()
    assert torch.equal(AudioModality(RATE, 0.04, channels=2).read(TONE)[1], torch.from_numpy(TONE))


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (written(TONE[None], 2, 44100), "found a rate of 44100 Hz, expected 1000 Hz"),
        ({"array": TONE, "sampling_rate": 16000}, "found a rate of 16000 Hz"),
        (TONE[:30], r"found 30 samples \(0.03 s\), expected 40 \(0.04 s\); seconds says another length, and fit"),
        (written(TONE[None], 2)[:60], "a WAV file that ends early"),
        (TONE * 3, "found waves -1.* … 1.*, expected floats in -1 … 1"),
        (np.full(LENGTH, np.nan, np.float32), "found waves nan"),
        (np.zeros((3, LENGTH)), "found 3 channels, expected 1"),
        (b"what is no sound", "16 bytes that are no sound"),
        ("/no/such.wav", r"found no sound at /no/such.wav \(No such file"),
        (None, "found NoneType, expected a path"),
        ({"array": TONE}, "found dict"),
    ],
)
def test_wrong_sounds_are_refused_in_a_line(raw: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match) as refused:
        AudioModality(RATE, LENGTH / RATE).read(raw)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0},
        {"seconds": 0},
        {"channels": 3},
        {"form": "midi"},
        {"form": "mel", "high": 9000.0},
        {"form": "mel", "hop": 4096},
        {"form": "mel", "window": 4096},
        {"std": 0.0},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as refused:
        AudioModality(**options)
    assert refused.value.option == [*options][-1]


MEL = Mel(8000, 24, 256, 128, 0.0, 4000.0)


@pytest.mark.parametrize("hertz", [500.0, 1500.0, 3000.0])
@pytest.mark.parametrize("size", [1.0, 0.1])
def test_a_tone_is_in_its_band_and_as_loud_as_it_is(hertz: float, size: float) -> None:
    x = size * torch.sin(2 * math.pi * hertz * torch.arange(2048) / 8000)
    found, filters = MEL.decibels(x)[:, 4:-4].mean(1), MEL.filters()
    # A tone in the middle of a bin fills it and half of its two neighbours, by a Hann window: powers 1, 1/4, 1/4.
    bins = torch.zeros(129, dtype=torch.float64)
    bin_ = round(hertz / 31.25)
    bins[bin_], bins[bin_ - 1], bins[bin_ + 1] = 1, 0.25, 0.25
    want = 10 * (filters @ bins * size**2).clamp(min=1e-8).log10()
    top = want > want.max() - 10
    torch.testing.assert_close(found[top].double(), want[top], atol=0.1, rtol=0)
    assert int(found.argmax()) == int(want.argmax())


def test_no_wave_is_louder_than_the_limit() -> None:
    x = torch.sign(torch.sin(2 * math.pi * 500 * (torch.arange(2048) + 0.5) / 8000))
    for loud in (x, torch.ones(2048), torch.randn(2048, generator=torch.Generator().manual_seed(0)).sign()):
        assert float(MEL.decibels(loud).max()) <= 6.03
        assert float(MEL.decibels(0 * loud).max()) == -80


def test_a_spectrogram_sounds_as_it_looks() -> None:
    """The spectrogram of the sound that is made of a spectrogram is that one, but for what phases cannot do: a mean of 2 dB."""
    m = AudioModality(8000, 0.25, form="mel", bands=24, window=256, hop=64)
    time = torch.arange(2000) / 8000
    x = sum(0.2 * torch.sin(2 * math.pi * hertz * time) for hertz in (440.0, 1320.0, 2500.0)) * (1 - 2 * time)
    seen = m.read(x)
    again = m.read(m.heard(seen))
    loud = seen > -40
    assert float((again - seen)[loud].abs().mean()) < 2
    assert float(m.metrics()["decibel_error"](seen[None], seen[None])) == 0


def test_spectrograms_conform() -> None:
    """The kit's checks of draws, codes, likelihood and reading; all others are asked of waves."""
    m = AudioModality(2000, 0.032, form="mel", bands=4, window=32, hop=16)
    found = run(
        m, only=["decoder.distribution", "encoder.unit_variance", "loss.normalised", "read.back", "read.refuses"]
    )
    assert found.verdict != "failed", found.failures[0].explain()
    assert found.counts["passed"] >= 3


def test_init_writes_what_a_training_takes_and_answers_play(tmp_path: Path) -> None:
    (tmp_path / "data/audio").mkdir(parents=True)
    (tmp_path / "data/image").mkdir()
    for k in range(12):
        (tmp_path / f"data/audio/{k:02}.wav").write_bytes(wav(TONE[None] * k / 12, RATE))
        mmcore.discover().modality("image", channels=1, size=4).show(torch.zeros(1, 4, 4)).save(
            tmp_path / f"data/image/{k:02}.png"
        )  # type: ignore[union-attr]
    guess = configuration(tmp_path / "data", mmcore.discover(), out=str(tmp_path / "run"))
    assert 'plugin = "audio"\nrate = 1000\nseconds = 0.04\nchannels = 1\n' in guess.text, guess.text
    assert "audio: audio, sounds of 0.04 s at 1000 Hz, of 12 looked at, mono" in "\n".join(guess.said)
    small = {
        "training": {"steps": 2, "batch_size": 4},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}},
        "sampling": {"n": 3, "steps": 2},
    }
    train(configured(tomllib.loads(guess.text) | small, registry=mmcore.discover()), quiet=True)
    sounds = sorted((tmp_path / "run/samples").glob("sound-audio-*.wav"))
    assert [one.name for one in sounds] == [f"sound-audio-{k:03}.wav" for k in range(3)]
    assert waves(sounds[0].read_bytes())[0].shape == (1, LENGTH)
    (tmp_path / "new/image").mkdir(parents=True)
    (tmp_path / "data/image/00.png").rename(tmp_path / "new/image/00.png")
    mmcore.predict(tmp_path / "run", tmp_path / "new", draws=9, steps=1).write(tmp_path / "out")
    assert waves((tmp_path / "out/audio/00.wav").read_bytes())[0].shape == (1, LENGTH)
