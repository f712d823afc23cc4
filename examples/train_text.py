# SPDX-License-Identifier: BSD-3-Clause
"""A character model of a text by truncated backpropagation in time, in NumPy or PyTorch.

Two LSTM layers of 128 units, sequences of 50 characters, 50 side by side; the last tenth of the
text is held out. Both engines start from the same weights and see the same batches. The text is
the language reference inside CPython, or any other with --data: "Tiny Shakespeare" for example,
data/tinyshakespeare/input.txt of github.com/karpathy/char-rnn, for 4000 updates.
"""

import argparse
import sys
from pathlib import Path

import characters
import numpy as np
from documentation import documentation
from settings import Ints, chosen_engines, one_cycle, use_threads
from timing import Training, train_in_turn

PEAK_RATE = 2e-2


def run(
    engines: tuple[str, ...],
    seed: int,
    alphabet: int,
    texts: tuple[Ints, Ints],
    rates: list[float],
    what: str,
) -> tuple[Training, dict[str, float]]:
    """Trains in each engine from the same weights; losses and seconds, held-out losses."""
    ids, held_out = texts
    ours = characters.CharacterModel(alphabet, seed)
    scripts, models = {"fastlstm": characters}, {"fastlstm": ours}
    if "torch" in engines:
        import characters_torch

        scripts["torch"] = characters_torch
        models["torch"] = characters_torch.with_weights(ours.parameters())
    runs = {e: scripts[e].train(models[e], ids, rates) for e in engines}
    course = train_in_turn(runs, len(rates), what)
    return course, {e: scripts[e].held_out_loss(models[e], held_out) for e in engines}


def main() -> int:
    """Trains with one engine or with both and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("fastlstm", "torch", "both"), default="fastlstm")
    parser.add_argument("--updates", type=int, default=1000, help="135 read CPython's text once")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a text file; CPython's documentation if none")
    options = parser.parse_args()
    engines = chosen_engines(options.engine)
    try:
        text = documentation() if options.data is None else options.data.read_text("utf-8")
    except (ImportError, OSError, UnicodeError) as error:
        print(f"no text ({error}): name a text file with --data", file=sys.stderr)
        return 2
    least = 2 * characters.STEPS * characters.BATCH
    if len(text) < least:
        print(f"the text has {len(text)} characters and needs {least}", file=sys.stderr)
        return 2
    use_threads(options.threads)
    ids, alphabet = characters.numbered(text)
    cut = int(0.9 * len(ids))
    texts = ids[:cut], ids[cut:]
    rates = one_cycle(options.updates, PEAK_RATE)
    run(engines, options.seed, alphabet, (texts[0], texts[1][:100]), rates[:5], "warm-up")
    course, held_out = run(engines, options.seed, alphabet, texts, rates, "training")
    for engine in engines:
        for part in np.array_split(np.arange(options.updates), 10):
            mean = np.mean([course.losses[engine][k] for k in part])
            print(f"{engine:<8} updates {part[0] + 1:5} to {part[-1] + 1:5}: mean loss {mean:.4f}")
        print(
            f"{engine:<8} held-out loss {held_out[engine]:.4f} nats per character, "
            f"{options.updates} updates in {course.total(engine):.1f} s"
        )
    if len(engines) == 2:
        print(
            "largest relative difference of the losses: "
            f"{course.difference('fastlstm', 'torch', 100):.1e} over the first 100 updates"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
