# SPDX-License-Identifier: BSD-3-Clause
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Engine:
    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    isa: str
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        directions: int,
        double_precision: bool,
        isa: str,
        weights: list[tuple[Any, ...]],
        gemm: int = 0,
    ) -> None: ...
    def forward(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        h_0: NDArray[Any] | None,
        c_0: NDArray[Any] | None,
        h_n: NDArray[Any] | None,
        c_n: NDArray[Any] | None,
        cells: NDArray[Any] | None,
        lengths: Any,
        threads: int,
    ) -> None: ...
    def plan(self, steps: int, batch: int, threads: int) -> dict[str, Any]: ...

class Stream:
    engine: Engine
    batch: int
    dtype: np.dtype[Any]
    h: NDArray[Any]
    c: NDArray[Any]
    def __init__(
        self, engine: Engine, batch: int, threads: int, h: NDArray[Any], c: NDArray[Any]
    ) -> None: ...
    def __call__(self, x: NDArray[Any]) -> NDArray[Any]: ...

def isa_available(name: str) -> bool: ...
def isa_names() -> list[str]: ...
def team_max() -> int: ...
def team_name() -> str: ...
def forked() -> None: ...
def available_memory() -> int: ...
def measure_fma(seconds: float, dtype: str, isa: str) -> float: ...
def measure_read_bandwidth(size: int, seconds: float, isa: str) -> float: ...
