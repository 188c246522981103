"""Sounds as files: WAV by the standard library, FLAC and all else by soundfile. Importing this module imports no torch."""

import io
import wave

import numpy as np

from mmcore import RequestError

_WIDE = {1: np.dtype("u1"), 2: np.dtype("<i2"), 4: np.dtype("<i4")}


def waves(data: bytes) -> tuple[np.ndarray, int]:
    """The waves ``(channels, samples)`` in -1 … 1 of a file's bytes, float32, and their rate in Hz.

    Raises:
        RequestError: no sound, or none that is whole.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        try:
            return _wav(data)
        except wave.Error:
            pass  # of another kind than whole numbers
        except EOFError as error:
            raise RequestError("found a WAV file that ends early, expected a whole one") from error
    try:
        import soundfile
    except (ModuleNotFoundError, OSError) as error:
        raise RequestError("found a sound that is no plain WAV file; FLAC and others need soundfile: pip install 'mmcore-audio[files]'") from error  # fmt: skip
    try:
        x, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise RequestError(f"found {len(data)} bytes that are no sound, expected a WAV or FLAC file") from error
    return np.ascontiguousarray(x.T), int(rate)


def _wav(data: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(data)) as file:
        channels, width, rate, count = file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()
        held = file.readframes(count)
    if len(held) != count * channels * width:
        raise EOFError
    if width == 3:
        # Three bytes as the upper ones of four.
        four = np.zeros((count * channels, 4), np.uint8)
        four[:, 1:] = np.frombuffer(held, np.uint8).reshape(-1, 3)
        numbers = four.reshape(-1).view("<i4")
    else:
        numbers = np.frombuffer(held, _WIDE[width])
    return scaled(numbers).reshape(-1, channels).T.copy(), rate


def scaled(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers of any width as floats in -1 … 1; unsigned bytes have their silence at 128."""
    if numbers.dtype.kind == "f":
        return numbers.astype(np.float32)
    if numbers.dtype == np.uint8:
        return (numbers.astype(np.float32) - 128) / 128
    return (numbers.astype(np.float64) / -float(np.iinfo(numbers.dtype).min)).astype(np.float32)


def wav(x: np.ndarray, rate: int) -> bytes:
    """The bytes of a WAV file of 16 bits, of waves ``(channels, samples)`` in -1 … 1."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(len(x))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((x.T.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return data.getvalue()
