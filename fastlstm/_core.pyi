# SPDX-License-Identifier: BSD-3-Clause
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .spec import Spec

class Block:
    size: int
    nbytes: int
    def __init__(self, size: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class StragglerBackoff: ...

class Strided:
    address: int
    def __init__(
        self, address: int, steps: int, batch: int, t: int, b: int, rows: int = 0
    ) -> None: ...

class Hold:
    def __enter__(self) -> None: ...
    def __exit__(self, kind: object, value: object, traceback: object) -> None: ...

class Guard:
    def __init__(self, what: str) -> None: ...
    def reading(self) -> Hold: ...
    def writing(self, wait: bool = False) -> Hold: ...

class Parameters:
    arrays: dict[str, NDArray[Any]]
    training: bool
    live: bool
    version: int
    guard: Guard
    packed: tuple[Engine, int] | None
    def __init__(
        self, arrays: dict[str, NDArray[Any]], training: bool = False, live: bool = False
    ) -> None: ...
    def train(self, mode: bool) -> None: ...
    def load(self, found: dict[str, NDArray[Any]]) -> None: ...
    def copies(self) -> dict[str, NDArray[Any]]: ...
    def settled(self) -> tuple[int, int]: ...
    def unchanged(self, version: int, writes: int) -> bool: ...
    def keep(self, version: int, engine: Engine, passes: int) -> None: ...
    def forget(self) -> None: ...

_Rows = NDArray[Any] | Strided
_State = NDArray[Any] | int

class Engine:
    input_size: int
    hidden_size: int
    outputs: int
    num_layers: int
    directions: int
    has_c: bool
    isa: str
    def __init__(
        self,
        spec: Spec,
        isa: str,
        weights: list[tuple[Any, ...]],
        gemm: int = 0,
        passes: int = 1,
        threads: int = 1,
        backoff: StragglerBackoff | None = None,
        hold_gil: bool = False,
    ) -> None: ...
    def forward(
        self,
        x: _Rows,
        y: _Rows,
        h_0: _State | None,
        c_0: _State | None,
        h_n: _State | None,
        c_n: _State | None,
        cells: _Rows | None,
        lengths: Any,
        threads: int,
        out: bool = False,
        tape: Any = None,
        dropout: float = 0.0,
        seed: int = 0,
        starts: Any = None,
        untouched: int = 0,
        noisy: bool = False,
    ) -> None: ...
    def backward(
        self,
        tape: Any,
        x: _Rows,
        lengths: Any,
        dy: _Rows | None,
        dcells: _Rows | None,
        dh_n: _State | None,
        dc_n: _State | None,
        dx: _Rows | None,
        dh_0: _State | None,
        dc_0: _State | None,
        grads: list[tuple[Any, ...]] | None,
        accumulate: bool,
        threads: int,
        dropout: float = 0.0,
        seed: int = 0,
        starts: Any = None,
        noisy: bool = False,
    ) -> None: ...
    def force(
        self,
        dir_groups: int,
        row_groups: int,
        unit_groups: int,
        ahead: bool,
        purpose: str = "infer",
    ) -> None: ...
    def plan(
        self, steps: int, batch: int, threads: int, purpose: str = "infer"
    ) -> dict[str, Any]: ...

class Stream:
    engine: Engine
    batch: int
    dtype: np.dtype[Any]
    h: NDArray[Any]
    c: NDArray[Any] | None
    batch_first: bool
    def __init__(
        self, engine: Engine, batch: int, threads: int, batch_first: bool = False
    ) -> None: ...
    def _state_now(self) -> Any: ...
    def _set_state(self, h: NDArray[Any] | None, c: NDArray[Any] | None) -> None: ...
    def _converted(self, x: Any) -> NDArray[Any]: ...
    def __call__(self, x: Any) -> NDArray[Any]: ...

def tape_bytes(spec: Spec, isa: str, steps: int, batch: int) -> int: ...
def drop_weights(weights: NDArray[Any], p: float, seed: int, place: int, isa: str) -> None: ...
def isa_available(name: str) -> bool: ...
def isa_names() -> list[str]: ...
def cache_sizes() -> tuple[int, int, int]: ...
def team_max() -> int: ...
def team_cpus() -> int: ...
def team_name() -> str: ...
def forked() -> None: ...
def assume_caches(kind: str) -> None: ...
def available_memory() -> int: ...
def empty_pool() -> None: ...
def hash_memory(addresses: list[int], sizes: list[int], isa: str) -> int: ...
def measure_fma(seconds: float, dtype: str, isa: str) -> float: ...
def measure_read_bandwidth(size: int, seconds: float, isa: str) -> float: ...
