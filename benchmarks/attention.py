"""Plain matmul attention against torch's kernel, forward and backward, by number of tokens and precision.

``python -m benchmarks.attention`` prints the table that the transformer's choice rests on.
"""

import statistics
import time

import torch
from torch.nn import functional as F


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """By matrix products."""
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v


def main() -> None:
    """Time both in turn, one thread, batch 64, four heads of width 20."""
    torch.set_num_threads(1)
    print("| precision | tokens | plain, ms | kernel, ms | plain / kernel |\n|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        for tokens in (16, 64, 196):
            q, k, v = (torch.randn(64, 4, tokens, 20, dtype=dtype, requires_grad=True) for _ in range(3))
            times: dict[object, list[float]] = {plain: [], F.scaled_dot_product_attention: []}
            for _ in range(7):
                for form, found in times.items():
                    started = time.perf_counter()
                    for _ in range(3):
                        form(q, k, v).sum().backward()  # type: ignore[operator]
                    found.append((time.perf_counter() - started) / 3)
            one, two = (1e3 * statistics.median(found) for found in times.values())
            name = str(dtype).removeprefix("torch.")
            print(f"| {name} | {tokens} | {one:.1f} | {two:.1f} | {one / two:.2f} |", flush=True)


if __name__ == "__main__":
    main()
