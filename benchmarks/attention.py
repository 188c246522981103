"""Plain matmul attention against torch's kernel, forward and backward, by number of tokens.

``python -m benchmarks.attention`` prints the table that the transformer's choice rests on.
"""

import statistics
import time

import torch
from torch.nn import functional as F


def main() -> None:
    """Time both, one thread, batch 64, four heads of width 20."""
    torch.set_num_threads(1)
    print("tokens  plain ms  kernel ms  plain/kernel")
    for tokens in (16, 64, 196):
        q, k, v = (torch.randn(64, 4, tokens, 20, requires_grad=True) for _ in range(3))

        def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v

        a, b = [], []
        for _ in range(9):
            for times, form in ((a, plain), (b, F.scaled_dot_product_attention)):
                started = time.perf_counter()
                for _ in range(5):
                    form(q, k, v).sum().backward()
                times.append((time.perf_counter() - started) / 5)
        one, two = 1e3 * statistics.median(a), 1e3 * statistics.median(b)
        print(f"{tokens:6d}  {one:8.2f}  {two:9.2f}  {one / two:12.2f}")


if __name__ == "__main__":
    main()
