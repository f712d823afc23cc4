# SPDX-License-Identifier: BSD-3-Clause
"""A character model of Shakespeare by truncated backpropagation in time, in NumPy or PyTorch.

Two LSTM layers of 128 units, sequences of 50 characters, 50 side by side; the last tenth of the
text is held out. Both engines start from the same weights and see the same batches.
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter

import characters
import numpy as np
from layers import Ints, largest_difference, one_cycle, use_threads
from tqdm import tqdm

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "text" / "tinyshakespeare.txt"
PEAK_RATE = 5e-3


def run(
    engine: str, start: characters.CharacterModel, ids: Ints, held_out: Ints, rates: list[float]
) -> tuple[list[float], float, float]:
    """Trains a model with the weights of `start`: losses, seconds, held-out loss."""
    with tqdm(total=len(rates), desc=engine, unit="update", mininterval=0.5) as bar:
        if engine == "fastlstm":
            began = perf_counter()
            losses = characters.train(start, ids, rates, bar.update)
            return losses, perf_counter() - began, characters.held_out_loss(start, held_out)
        import characters_torch

        model = characters_torch.with_weights(start.parameters())
        began = perf_counter()
        losses = characters_torch.train(model, ids, rates, bar.update)
        return losses, perf_counter() - began, characters_torch.held_out_loss(model, held_out)


def main() -> int:
    """Trains with one engine or with both and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("fastlstm", "torch", "both"), default="fastlstm")
    parser.add_argument("--updates", type=int, default=4000, help="400 read the text once")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA, help="a text file")
    options = parser.parse_args()
    if not options.data.exists():
        print(f"{options.data} is missing: name a text file with --data", file=sys.stderr)
        return 2
    use_threads(options.threads)
    ids, alphabet = characters.read_text(options.data)
    held_out = ids[int(0.9 * len(ids)) :]
    ids = ids[: -len(held_out)]
    rates = one_cycle(options.updates, PEAK_RATE)
    engines = ("torch", "fastlstm") if options.engine == "both" else (options.engine,)
    curves = {}
    for engine in engines:
        model = characters.CharacterModel(alphabet, options.seed)
        run(engine, model, ids, held_out[:100], rates[:3])  # warm-up: buffers, code, caches
        model = characters.CharacterModel(alphabet, options.seed)
        curves[engine], seconds, held_out_loss = run(engine, model, ids, held_out, rates)
        for part in np.array_split(np.arange(options.updates), 10):
            mean = np.mean([curves[engine][k] for k in part])
            print(f"{engine:<8} updates {part[0] + 1:5} to {part[-1] + 1:5}: mean loss {mean:.4f}")
        print(
            f"{engine:<8} held-out loss {held_out_loss:.4f} nats per character, "
            f"{options.updates} updates in {seconds:.1f} s"
        )
    if len(engines) == 2:
        ours, theirs = curves["fastlstm"], curves["torch"]
        print(
            "largest relative difference of the losses: "
            f"{largest_difference(ours[:100], theirs[:100]):.1e} over the first 100 updates"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
