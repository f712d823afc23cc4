# SPDX-License-Identifier: BSD-3-Clause
"""The character model of characters.py as PyTorch has it: an ordinary model and training loop."""

from collections.abc import Iterator

import torch
from characters import CLIP, HIDDEN, LAYERS, chunks
from settings import Floats, Ints

State = tuple[torch.Tensor, torch.Tensor]


class TorchCharacterModel(torch.nn.Module):
    """One-hot characters -> two LSTM layers -> logits of the next character."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.one_hot = torch.eye(characters)
        self.lstm = torch.nn.LSTM(characters, HIDDEN, LAYERS)
        self.linear = torch.nn.Linear(HIDDEN, characters)

    def forward(self, ids: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """(T, B) -> logits (T, B, characters), state."""
        y, state = self.lstm(self.one_hot[ids], state)
        return self.linear(y), state


def with_weights(parameters: dict[str, Floats]) -> TorchCharacterModel:
    """A model with a copy of these weights."""
    model = TorchCharacterModel(len(parameters["linear.weight"]))
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in parameters.items()})
    return model


def train(model: TorchCharacterModel, ids: Ints, rates: list[float]) -> Iterator[float]:
    """Makes an update with each learning rate and yields its loss in nats."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)  # the fastest that PyTorch has
    state = None
    for lr, (read, following, afresh) in zip(rates, chunks(ids), strict=False):
        # The state is carried on, but no gradient flows back through it.
        state = None if afresh or state is None else tuple(s.detach() for s in state)
        logits, state = model(torch.from_numpy(read), state)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(following).flatten()
        )
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        yield loss.item()


def held_out_loss(model: TorchCharacterModel, ids: Ints) -> float:
    """Nats per character of a text that training has not seen, read as one sequence."""
    model.eval()
    total, state, text = 0.0, None, torch.from_numpy(ids)
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, 4096):
            window = text[start : start + 4097, None]
            logits, state = model(window[:-1], state)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
            total += loss.item() * (len(window) - 1)
    return total / (len(ids) - 1)
