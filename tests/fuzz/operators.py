# SPDX-License-Identifier: BSD-3-Clause
"""torch.ops.fastlstm called by hand, with arguments wrong in every way that torch can make them.

What comes of it is an exception or the numbers of PyTorch's own layer on the same values.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from .driver import Skipped
from .hostile import Rng, one_of
from .operator_calls import KINDS, LAYOUTS, Call

try:
    import torch
except ImportError as error:
    raise Skipped("PyTorch is not installed") from error

import fastlstm.torch

assert fastlstm.torch.LSTM
torch.set_num_threads(1)
ops = torch.ops.fastlstm
FORWARD = {True: ops.lstm_forward, False: ops.rnn_forward}  # by whether there is a c
BACKWARD = {True: ops.lstm_backward, False: ops.rnn_backward}
# Of lstm_forward and lstm_backward; some of them add no parameters.
OPTIONS = (
    '{"coupled": true}',
    '{"cell_clip": 0.5, "gate_clip": 0.1}',
    '{"recurrent_dropout": 0.5, "zoneout_h": 0.1}',
    '{"peepholes": true}',
    '{"layer_norm": "separate"}',
    *("{}", "{", "gru", "lstm_general", '{"x": 1}', '{"cell_clip": 1e400}', "{" * 10_000),
)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
DTYPES += [torch.complex64, torch.uint8]
ODD = [-(2**63), -1, 0, 1, 2, 3, 2**31, 2**62, 2**63 - 1]


class Sub(torch.Tensor):  # type: ignore[misc]
    pass


def spoil(rng: Rng, t: Any) -> Any:
    """A tensor that is wrong, or only looks so."""
    shape = list(t.shape)
    axis = int(rng.integers(max(1, t.dim())))
    ways: list[Any] = [
        lambda: t[..., :-1],
        lambda: t.unsqueeze(0),
        lambda: t.reshape(-1),
        lambda: t.transpose(0, -1),
        lambda: t.transpose(0, -1).contiguous().transpose(0, -1),
        lambda: t.new_empty(0),
        lambda: t.new_empty(()),
        lambda: t.new_zeros([n if i != axis else n + 1 for i, n in enumerate(shape)]),
        lambda: t.new_zeros([n if i != axis else 0 for i, n in enumerate(shape)]),
        lambda: t.to(one_of(rng, DTYPES)),
        lambda: t.to("meta"),
        lambda: t.clone().requires_grad_(),
        lambda: t.expand(2, *shape)[1],
        lambda: t[:1].expand(*shape),
        lambda: torch.as_strided(t, shape, [0] * len(shape)),
        lambda: torch.as_strided(t, shape, [1] * len(shape)),
        lambda: t.repeat_interleave(2, -1)[..., ::2],
        lambda: torch.cat([t, t], -1)[..., : shape[-1]],
        lambda: torch.cat([t.reshape(-1)[:1], t.reshape(-1)])[1:].reshape(shape),
        lambda: misaligned(t),
        lambda: emptied(t),
        lambda: shrunk(t),
        lambda: t.to_sparse(),
        lambda: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
        lambda: torch._neg_view(t),
        lambda: torch.complex(t, -t).conj().imag,
        lambda: t.as_subclass(Sub),
        lambda: torch.nn.Parameter(t),
        lambda: inferred(t),
        lambda: torch.nested.nested_tensor([t, t]),
        lambda: t.to_mkldnn(),
        lambda: torch.zeros(shape, dtype=t.dtype, device="meta"),
        lambda: None,
        lambda: t.new_zeros(1).expand(2**20, 2**20, 2**10),
        lambda: torch._efficientzerotensor(shape, dtype=t.dtype),
        lambda: t * math.nan,
    ]  # fmt: skip
    try:
        return one_of(rng, ways)()
    except (RuntimeError, IndexError, NotImplementedError, TypeError, ValueError):
        return t


def misaligned(t: Any) -> Any:
    data = torch.zeros(t.numel() * t.element_size() + 1, dtype=torch.uint8)
    made = torch.frombuffer(bytearray(data.numpy().tobytes()), dtype=torch.uint8)[1:].view(
        torch.uint8
    )
    return torch.from_numpy(made.numpy().view(t.numpy().dtype)).reshape(t.shape)


def emptied(t: Any) -> Any:
    made = t.clone()
    made.untyped_storage().resize_(0)
    return made


def shrunk(t: Any) -> Any:
    made = t.clone()
    made.untyped_storage().resize_(made.untyped_storage().nbytes() // 2)
    return made


def inferred(t: Any) -> Any:
    with torch.inference_mode():
        return t.clone()


def mutate(rng: Rng, arguments: dict[str, Any]) -> list[str]:
    """Spoils arguments in place; tells what was done to which."""
    log = []
    # Each once: torch's own functions crash on some of what comes out here.
    for name in rng.permutation(list(arguments))[: int(rng.integers(0, 3))]:
        name = str(name)
        value = arguments[name]
        log.append(name)
        if isinstance(value, torch.Tensor):
            arguments[name] = spoil(rng, value)
            if name == "batch_sizes" and rng.random() < 0.7:
                arguments[name] = sizes(rng, value)
        elif isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
            i = int(rng.integers(len(value)))
            way = rng.random()
            if way < 0.7:
                value[i] = spoil(rng, value[i])
            else:
                del value[i:]
        elif isinstance(value, list):
            arguments[name] = one_of(rng, [[], value[1:], [*value, True], [not n for n in value]])
        elif value is None:
            arguments[name] = one_of(
                rng, [torch.tensor(3), torch.zeros(3), torch.tensor(0.5), torch.zeros(2, 3, 4)]
            )
        elif isinstance(value, str):
            arguments[name] = one_of(rng, [*LAYOUTS, *KINDS, "", "x" * 1000, "tbi\0"])
        elif isinstance(value, bool):
            arguments[name] = not value
        elif isinstance(value, float):
            arguments[name] = one_of(rng, [-1.0, 0.5, 1.0, 2.0, math.nan, math.inf])
        elif isinstance(value, int):
            arguments[name] = one_of(rng, ODD)
        log[-1] += f" = {short(arguments[name])}"
    return log


def sizes(rng: Rng, value: Any) -> Any:
    found = value.clone()
    found[int(rng.integers(len(found)))] = one_of(rng, [*ODD, 10**9])
    return found


def short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        with contextlib.suppress(Exception):
            shape, strides = tuple(value.shape), value.stride()
            return f"{type(value).__name__}{shape} {value.dtype} {value.device} {strides}"
        return type(value).__name__
    return str([short(one) for one in value])[:300] if isinstance(value, list) else repr(value)[:40]


def plain(value: Any) -> Any:
    """Contiguous copies without gradients."""
    if isinstance(value, torch.Tensor):
        return (
            value.detach()
            .resolve_neg()
            .resolve_conj()
            .as_subclass(torch.Tensor)
            .clone(memory_format=torch.contiguous_format)
        )
    return [plain(one) for one in value] if isinstance(value, list) else value


def wanted(a: dict[str, Any]) -> list[Any]:
    """What PyTorch computes with these values: y, h_n and c_n if there is one (a cell's h as y
    alone, and c)."""
    x, weights, name = a["x"], a["weights"], a.get("cell", "lstm")
    given = [a[part] for part in ("h_0", "c_0") if part in a]
    both, layout = a["bidirectional"], a["layout"]
    D = 2 if both else 1
    bias = len(weights) > 2 and weights[2].dim() == 1
    layers = len(weights) // ((4 if bias else 2) * D)
    H = weights[1].shape[1]
    extents = {"tbi": 1, "bti": 0, "cell": 0}
    B = int(a["batch_sizes"][0]) if layout == "packed" else 1
    B = x.shape[extents[layout]] if layout in extents else B
    shape = (layers * D, B, H)
    states = [x.new_zeros(shape) if s is None else s.reshape(shape) for s in given]
    state = states if name == "lstm" else states[0]
    run, options = getattr(torch._VF, name), (weights, bias, layers, 0.0, False, both)
    if layout == "packed":
        return list(run(x, a["batch_sizes"], state, *options))
    rows = {"ti": lambda: x[:, None], "cell": lambda: x[None]}.get(layout, lambda: x)()
    y, *last = run(rows, state, *options, layout == "bti")
    if layout == "ti":
        return [y[:, 0], *(one[:, 0] for one in last)]
    return [y[0], *(one[0] for one in last[1:])] if layout == "cell" else [y, *last]


def close(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one = plain(one)
        assert one.shape == other.shape, f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
        scale = (
            max(1.0, float(other.abs().max())) if other.numel() and other.isfinite().all() else 1.0
        )
        bound = 1e-9 if one.dtype is torch.float64 else 3e-4
        assert torch.allclose(one, other, atol=bound * scale, rtol=bound, equal_nan=True), (
            "wrong numbers"
        )


def case(rng: Rng) -> None:
    call = Call(rng)
    log = ["forward"]
    try:
        (backward_case if rng.random() < 0.4 else forward_case)(rng, call, log)
    except BaseException as error:
        raise AssertionError(f"{call.cell}, {call.layout} after {log}: {error!r}") from error


# AttributeError: torch passes None on for tensors that are not optional.
REFUSALS = (
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
    IndexError,
    OverflowError,
    AttributeError,
)


def forward_case(rng: Rng, call: Call, log: list[str]) -> None:
    a = call.arguments
    log += mutate(rng, a)
    tape, variant = bool(rng.random() < 0.3), any_variant(rng, call, log)
    with contextlib.suppress(*REFUSALS):
        found = FORWARD[call.has_c](*a.values(), tape, **variant)
        if any(one.device.type == "meta" for one in found):
            return  # shapes alone
        assert_whole(a)
        values = {name: plain(value) for name, value in a.items()}
        if a["dropout"] or variant:
            return
        expected = wanted(values)
        y, *last, _ = found
        close([y, *last[1:]] if a["layout"] == "cell" else [y, *last], expected)


def any_variant(rng: Rng, call: Call, log: list[str]) -> dict[str, str]:
    """Options of an LSTM in some calls, right ones and wrong ones."""
    if not call.has_c or rng.random() < 0.7:
        return {}
    text = one_of(rng, OPTIONS)
    log.append(f"options = {text[:40]}")
    return {"options": text}


def assert_whole(arguments: dict[str, Any]) -> None:
    """What was accepted has memory to read."""
    for name, value in arguments.items():
        for one in value if isinstance(value, list) else [value]:
            if (
                type(one) is torch.Tensor
                and one.device.type == "cpu"
                and one.layout is torch.strided
                and one.numel()
            ):
                last = (
                    sum((n - 1) * s for n, s in zip(one.shape, one.stride(), strict=True))
                    + one.storage_offset()
                )
                if one._is_zerotensor():
                    continue
                assert one.untyped_storage().nbytes() >= (last + 1) * one.element_size(), (
                    f"{name} has no memory"
                )


def backward_case(rng: Rng, call: Call, log: list[str]) -> None:
    a = dict(call.arguments)
    log[0] = "backward"
    needs = [True] * (2 + call.has_c + len(a["weights"]))
    variant = any_variant(rng, call, log)
    try:
        *_, tape = FORWARD[call.has_c](*a.values(), True, **variant)
    except ValueError:
        assert variant
        return
    recorded = bool(variant)
    if variant and rng.random() < 0.3:
        variant = any_variant(rng, call, log)  # a tape of other options
    b: dict[str, Any] = {
        "tape": tape,
        "x": a["x"],
        "weights": list(a["weights"]),
        "batch_sizes": a["batch_sizes"],
    }
    b |= {"seed": None, "dy": call.random(*call.y_shape)}
    given = rng.random() < 0.6
    cell = call.layout == "cell"
    b |= {"dh_n": call.random(*call.state_shape) if given and not cell else None}
    if call.has_c:
        b |= {"dc_n": call.random(*call.state_shape) if given else None}
    else:
        b |= {"cell": call.cell}
    b |= {
        "layout": a["layout"],
        "bidirectional": a["bidirectional"],
        "dropout": 0.0,
        "batch": a["batch"],
    }
    b |= {"needs": needs}
    original = dict(b, weights=list(b["weights"]))
    log += mutate(rng, b)
    with contextlib.suppress(*REFUSALS):
        found = BACKWARD[call.has_c](*b.values(), **variant)
        if any(one.device.type == "meta" for one in found):
            return  # shapes alone
        assert_whole(b)
        values = {name: plain(value) for name, value in b.items()}
        if b["dropout"] or recorded or variant:
            return
        now = [values["x"], *values["weights"]]
        then = [original["x"], *original["weights"]]
        same = all(torch.equal(p, q) for p, q in zip(now, then, strict=True))
        kept = ("cell", "layout", "bidirectional")
        same &= all(b.get(name) == original.get(name) for name in kept)
        if not same or not torch.equal(values["tape"], original["tape"]):
            return  # a tape of other values: only that nothing crashes counts
        leaf = {name: plain(value) for name, value in a.items()}
        parts = [part for part in ("h_0", "c_0") if part in leaf]
        leaves = [leaf["x"], *(leaf[part] for part in parts), *leaf["weights"]]
        for one in leaves:
            if one is not None:
                one.requires_grad_()
        if leaf["h_0"] is None:
            for at, part in enumerate(parts, 1):
                zeros = torch.zeros(call.state_shape, dtype=call.dtype)
                leaf[part] = leaves[at] = zeros.requires_grad_()
        results = wanted(leaf)
        names = ("dy", "dc_n") if cell else ("dy", "dh_n", "dc_n")
        grads = [values[name] for name in names if name in values]
        pairs = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None]
        if not pairs:
            return
        expected = torch.autograd.grad(
            [r for r, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True
        )
        chosen = [one for one, need in zip(expected, values["needs"], strict=True) if need]
        close(
            list(found),
            [torch.zeros_like(found[i]) if one is None else one for i, one in enumerate(chosen)],
        )


np.seterr(all="ignore")
