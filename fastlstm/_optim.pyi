# SPDX-License-Identifier: BSD-3-Clause
from .checks import Array

class Count:
    value: int
    def __init__(self, value: int = 0) -> None: ...

def address(array: Array) -> int: ...
def overlap(first: list[Array], second: list[Array]) -> tuple[int, int] | None: ...
def sgd(
    params: list[Array],
    grads: list[Array],
    buffers: list[Array],
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    steps: Count,
) -> None: ...
def adam(
    params: list[Array],
    grads: list[Array],
    means: list[Array],
    squares: list[Array],
    largest: list[Array],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    steps: Count,
) -> None: ...
def sum_squares(arrays: list[Array]) -> float: ...
def scale(arrays: list[Array], factor: float) -> None: ...
def clamp(arrays: list[Array], limit: float) -> None: ...
