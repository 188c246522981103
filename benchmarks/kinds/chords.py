"""Chords of three notes, as WAV files, with a picture of the keys that are down and the kind of chord."""

import math
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.kinds.figures import Trained, same
from mmcore import files, metrics
from mmcore.metrics import Figure
from mmcore.rng import Rng

RATE, SAMPLES, KEYS, ROWS = 4000, 1024, 19, 3000
CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "suspended": (0, 5, 7)}
BLACK = (1, 3, 6, 8, 10)
HERTZ = 261.63 * 2 ** (np.arange(KEYS) / 12)
"""From the C in the middle of a piano on."""


def notes(kind: int, root: int) -> list[int]:
    """The keys of a chord."""
    return [root + step for step in list(CHORDS.values())[kind]]


def keyboard(down: list[int]) -> np.ndarray:
    """A picture ``(4, 20)`` in 0 … 1: black keys are dark above, and a key that is down is black below."""
    picture = np.full((4, KEYS + 1), 0.9)
    for key in range(KEYS):
        picture[:2, key] = 0.3 if key % 12 in BLACK else 0.9
    picture[2:, down] = 0
    return picture


def write(folder: Path) -> None:
    """Write ``audio/*.wav``, ``image/*.png`` and ``labels.csv``: each note with a loudness and phase of its own, and a second harmonic."""
    from mmcore_audio.files import wav

    if folder.exists():
        shutil.rmtree(folder)
    rng = Rng.for_rows(0, ROWS).of("chords")
    kind, root = rng.of("kind").integers(0, 4).tolist(), rng.of("root").integers(0, KEYS - 7).tolist()
    loud, phase, light = rng.of("loud").uniform(3), rng.of("phase").uniform(3, 2), rng.of("light").normal(4, KEYS + 1)
    hiss, time = rng.of("hiss").normal(SAMPLES), np.arange(SAMPLES) / RATE
    lines = ["file,chord"]
    for row in range(ROWS):
        down = notes(kind[row], root[row])
        sound = 0.002 * hiss[row].numpy()
        for k, key in enumerate(down):
            turn = 2 * math.pi * phase[row, k].numpy()
            tone = np.sin(2 * math.pi * HERTZ[key] * time + turn[0]) + 0.3 * np.sin(
                4 * math.pi * HERTZ[key] * time + turn[1]
            )
            sound = sound + (0.1 + 0.12 * float(loud[row, k])) * tone * np.exp(-3 * time)
        picture = (keyboard(down) + 0.04 * light[row].numpy()).clip(0, 1)
        name = f"{row:05}"
        files.write(folder / "audio" / f"{name}.wav", wav(sound[None].astype(np.float32), RATE))
        (folder / "image").mkdir(exist_ok=True)
        Image.fromarray((255 * picture).round().astype(np.uint8)).save(folder / "image" / f"{name}.png")
        lines.append(f"{name},{list(CHORDS)[kind[row]]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def listen(waves: np.ndarray) -> str:
    """The three loudest notes of a sound by its Fourier transform, and the chord that they are: ``"7 minor"``; else their keys."""
    size = np.abs(np.fft.rfft(waves * np.hanning(len(waves)), 8 * len(waves)))
    hertz = np.fft.rfftfreq(8 * len(waves), 1 / RATE)
    power = [size[(hertz > f * 2 ** (-1 / 30)) & (hertz < f * 2 ** (1 / 30))].max() for f in HERTZ]
    # A note is louder than both keys beside it.
    around = [0.0, *power, 0.0]
    peaks = [k for k in range(KEYS) if power[k] >= max(around[k], around[k + 2])]
    return _chord(sorted(sorted(peaks, key=lambda k: -power[k])[:3]))


def look(image: Tensor) -> str:
    """The chord of the keys that are down in a picture ``(1, 4, 20)`` in -1 … 1."""
    down = (image[0, 2:, :KEYS].mean(0) < -0.1).nonzero()[:, 0].tolist()
    return _chord(down)


def _chord(keys: list[int]) -> str:
    for kind, name in enumerate(CHORDS):
        if keys and keys == notes(kind, keys[0]):
            return f"{keys[0]} {name}"
    return " ".join(map(str, keys))


def _heard(trained: Trained, x: Tensor) -> list[str]:
    from mmcore_audio.files import waves

    audio = trained.reader.model.variable("audio")
    found = []
    for one in x:
        sound = audio.heard(one)
        assert sound is not None
        found.append(listen(waves(sound.data)[0][0]))
    return found


def _kind(chords: list[str]) -> list[str]:
    return [chord.split()[-1] if chord else "" for chord in chords]


def measure(run: Path) -> dict[str, Figure]:
    """All directions between sound, keys and kind, on held-out rows; sounds are judged as they play, with phases found by Griffin and Lim's method."""
    trained = Trained.of(run, 300)
    label, rows = trained.reader.model.variable("chord"), trained.rows
    n, true = len(rows["chord"]), [look(x) for x in rows["image"]]
    kinds = [str(label.show(x)) for x in rows["chord"]]
    by_image, by_sound = trained.ask(n, image=rows["image"]), trained.ask(n, audio=rows["audio"])
    by_kind, joint = trained.ask(n, chord=rows["chord"]), trained.ask(n)
    error = trained.reader.model.variable("audio").metrics()["decibel_error"]
    return {
        "image → audio, all notes": same(_heard(trained, by_image["audio"]), true),
        "image → audio, dB off": metrics.average(error(by_image["audio"], rows["audio"])),
        "audio → image, all keys": same([look(x) for x in by_sound["image"]], true),
        "audio → chord": metrics.accuracy(by_sound["chord"], rows["chord"]),
        "image → chord": metrics.accuracy(by_image["chord"], rows["chord"]),
        "chord → audio, its kind": same(_kind(_heard(trained, by_kind["audio"])), kinds),
        "joint: sound and keys agree": same(_heard(trained, joint["audio"]), [look(x) for x in joint["image"]]),
        "the judge on held-out sounds": same(_heard(trained, rows["audio"]), true),
    }


def picture(run: Path, path: Path, n: int = 6) -> None:
    """Draw held-out keys with true and answered spectrograms, and write the sounds beside the picture."""
    trained = Trained.of(run, n)
    model, rows = trained.reader.model, trained.rows
    audio, image, label = (model.variable(name) for name in ("audio", "image", "chord"))
    answer = trained.ask(n, image=rows["image"])["audio"]
    wide, sheet = 110, Image.new("RGB", (100 + n * 110, 436), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (y, words) in enumerate(((20, "keys, given"), (130, "true sound"), (300, "answered"))):
        pen.text((4, y + 10), words, fill="black")
        for k in range(n):
            x = (rows["image"], rows["audio"], answer)[line][k]
            shown, size = (image.show(x), (100, 20)) if line == 0 else (audio.show(x), (100, 128))
            sheet.paste(shown.convert("RGB").resize(size, Image.Resampling.NEAREST), (100 + k * wide, y))  # type: ignore[union-attr]
    for k in range(n):
        pen.text((100 + k * wide, 50), str(label.show(rows["chord"][k])), fill="black")
        for x, name in ((rows["audio"][k], "true"), (answer[k], "answered")):
            sound = audio.heard(x)
            assert sound is not None
            files.write(path.with_name(f"{path.stem}-{k}-{name}{sound.suffix}"), sound.data)
    sheet.save(path)
