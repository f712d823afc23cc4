# SPDX-License-Identifier: BSD-3-Clause
"""Recurrent layers of ONNX models."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastlstm.file_kinds import existing, foreign

from . import files, onnx_chain, onnx_stacks, onnx_words
from .description import Array, Layer
from .errors import FormatError, Unsupported, library, reading
from .gates import ONNX_PEEPHOLES, to_torch
from .imported import Imported, Other
from .onnx_graph import Scope, Source, inlined

KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
_QUANTISED = "DynamicQuantizeLSTM"


def from_onnx(
    model: str | os.PathLike[str] | bytes | Any, *, external_data: bool = False
) -> Imported:
    """Take the recurrent layers of an ONNX model.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        The model.
    external_data : bool, default False
        Whether weights may be read from other files in the model's folder, as large models keep
        them, and all that ``torch.onnx.export`` writes by itself; of a path only.

    Returns
    -------
    Imported
        Every LSTM, GRU and RNN node, also of graphs in If, Loop and Scan nodes. Those that lie on
        each other with nothing between are one object.

    Raises
    ------
    FormatError
        The file is damaged, or has no recurrent node; the message names the place.
    Unsupported
        It has recurrent nodes, of which fastlstm has none.
    TypeError
        `model` is something else.
    OSError
        The file cannot be read.
    ImportError
        onnx is not installed.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> model = interop.to_onnx(fastlstm.LSTM(3, 4, bidirectional=True, seed=0), "model.onnx")
    >>> interop.from_onnx("model.onnx").model
    LSTM(3, 4, bidirectional=True, dtype=float32)
    """
    source = opened(model, external_data)
    scope = scope_of(source)
    found: list[tuple[Scope, str, Any, Layer]] = []
    unsupported: dict[str, str] = {}
    with reading(source.file):
        nodes = [*scope.walk()]
    for inside, name, node in nodes:
        if is_recurrent(node):
            try:
                with reading(source.file, name):
                    found.append((inside, name, node, layer_of(inside, name, node)))
            except Unsupported as error:
                unsupported[name] = error.what
        elif node.op_type in ("Loop", "Scan") and _looks_recurrent(node):
            unsupported[name] = (
                f"a {node.op_type} of MatMul and Tanh or Sigmoid: likely a recurrent layer that "
                "its exporter wrote out as steps, which is not recognised"
            )
    if not found and not unsupported:
        raise FormatError(source.file, "", _nothing(nodes))
    with reading(source.file):
        stacks, joined = onnx_stacks.joined(found)
        others = _others(nodes, joined)
        order = [name for _, name, _ in nodes if name in stacks or name in others]
        branches = ""
        try:
            chain = onnx_chain.Chain(scope, stacks, {name: node for _, name, node, _ in found})
            chain.walk()
        except onnx_chain.BranchError as error:
            branches = str(error)
        else:
            stacks = chain.stacks
            others = {part.name: part for part in chain.parts if isinstance(part, Other)}
            order = [part if isinstance(part, str) else part.name for part in chain.parts]
            if chain.states:
                states = ", ".join(chain.states)
                source.notes.append(f"sequential() gives {chain.end}, no final states: {states}")
            if any(chain.time_major):
                source.notes.append(
                    "sequential() takes and gives (B, T, ...), the file (T, B, ...)"
                )
        opsets = ", ".join(
            f"{o.domain or 'opset'} {o.version}" for o in source.model.opset_import[:8]
        )
        producer = f"{source.model.producer_name} {source.model.producer_version}".strip()
        return Imported(
            source.file,
            "ONNX",
            producer,
            opsets,
            stacks,
            list(others.values()),
            order,
            unsupported,
            list(dict.fromkeys(source.notes)),
            branches,
        )


def opened(model: Any, external_data: bool = False) -> Source:
    """The model read and its functions written out; raises as `from_onnx`."""
    onnx = library("onnx", "onnx", "read ONNX files")
    folder, of_path = None, False
    if isinstance(model, (bytes, bytearray, memoryview)):
        file, data = "model", bytes(model)
    elif isinstance(model, onnx.ModelProto):
        return Source(inlined(model, "model"), "model", model.ByteSize(), None)
    elif of_path := isinstance(model, (str, os.PathLike)):
        file = existing(model)
        data = files.contents(file)
        folder = os.path.dirname(os.path.abspath(file)) if external_data else None
    else:
        raise TypeError(
            f"model must be a path, bytes or an onnx.ModelProto, got {type(model).__name__}"
        )
    with reading(file):
        try:
            proto = onnx.load_model_from_string(data)
        except MemoryError:
            raise
        except Exception as error:
            what = (foreign(file) if of_path else None) or str(error).split("\n")[0]
            raise ValueError(f"not an ONNX file: {what}") from error
        if not proto.HasField("graph"):
            raise ValueError("not an ONNX file, or one without a graph")
    return Source(inlined(proto, file), file, len(data), folder, of_path)


def scope_of(source: Source) -> Scope:
    """The graph of a model, with those inside."""
    with reading(source.file):
        return Scope(source, source.model.graph)


def is_recurrent(node: Any) -> bool:
    """Whether a node is a recurrent layer."""
    if node.op_type == _QUANTISED:
        return bool(node.domain == "com.microsoft")
    return node.op_type in KINDS and node.domain in ("", "ai.onnx")


def layer_of(scope: Scope, name: str, node: Any) -> Layer:
    """A recurrent node's layer; Unsupported and ValueError say why there is none."""
    source = scope.source
    quantised = node.op_type == _QUANTISED
    kind = KINDS["LSTM" if quantised else node.op_type]
    inputs = [*node.input, *[""] * 12]
    onnx = library("onnx", "onnx", "read ONNX files")
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if quantised:
        w, r = (_dequantised(scope, inputs, at) for at in (1, 2))
        source.notes.append(
            f"{name}: int8 weights dequantised; results differ from those of {_QUANTISED}, which "
            "rounds activations too"
        )
    else:
        w, r = (_needed(scope, inputs[at], "WR"[at - 1], 3) for at in (1, 2))
    directions, hidden = len(w), r.shape[2]
    b = _needed(scope, inputs[3], "B", 2) if inputs[3] else None
    p = _needed(scope, inputs[7], "P", 2) if kind == "lstm" and inputs[7] else None
    if p is not None and not p.any():
        source.notes.append(f"{name}: its peepholes are all zero and left out")
        p = None
    direction = _text(given.get("direction", "forward")).lower()
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"direction must be forward, reverse or bidirectional, got {direction!r}")
    if directions != (2 if direction == "bidirectional" else 1):
        raise ValueError(f"W is of {directions} directions, and direction is {direction}")
    if given.get("hidden_size", hidden) != hidden:
        raise ValueError(f"hidden_size is {given['hidden_size']}, and R has shape {r.shape}")
    if any(part is not None and len(part) != directions for part in (r, b, p)):
        raise ValueError(f"R, B and P must be of {directions} directions, as W is")
    try:
        options, nonlinearity = _equations(kind, given, directions, p is not None)
    except onnx_words.Unknown as error:
        raise Unsupported(source.file, name, str(error)) from error
    weights = [
        _weights(source, name, kind, w[d], r[d], None if b is None else b[d],
                 None if p is None else p[d])
        for d in range(directions)
    ]  # fmt: skip
    if any(
        owner is not None and inputs[at] in owner.dequantised
        for at in (1, 2, 3)
        if (owner := scope.owner(inputs[at])) is not None
    ):
        source.notes.append(f"{name}: weights dequantised")
    batch_first = given.get("layout", 0) == 1
    states, fed = _initial_state(scope, kind, inputs, batch_first, (directions, hidden))
    return Layer(
        kind,
        name,
        w.shape[2],
        hidden,
        weights,
        options=options,
        nonlinearity=nonlinearity,
        reset_after=bool(given.get("linear_before_reset", 0)) if kind == "gru" else True,
        batch_first=batch_first,
        go_backwards=direction == "reverse",
        has_lengths=bool(inputs[4]),
        initial_state=states,
        has_state=fed,
    )


def _equations(
    kind: str, given: dict[str, Any], directions: int, peepholes: bool
) -> tuple[Any, str]:
    """Options and nonlinearity that a node's attributes say."""
    names = [_text(name) for name in given.get("activations", [])]
    alpha, beta = given.get("activation_alpha", []), given.get("activation_beta", [])
    chosen = onnx_words.activations(kind, names, alpha, beta, directions)
    clip = onnx_words.clip_of(given.get("clip"))
    if kind == "lstm":
        coupled = bool(given.get("input_forget", 0))
        return onnx_words.lstm_options(chosen, clip, coupled, peepholes), "tanh"
    if clip is not None:
        raise onnx_words.Unknown(f"clip={clip:g} of a {kind.upper()}, which fastlstm clips nowhere")
    if kind == "rnn":
        if chosen[0] not in ("tanh", "relu"):
            raise onnx_words.Unknown(f"an RNN of activation {chosen[0]}, not tanh or relu")
        return None, str(chosen[0])
    if chosen != ["sigmoid", "tanh"]:
        raise onnx_words.Unknown(f"a GRU of activations {chosen}, not sigmoid and tanh")
    return None, "tanh"


def _needed(scope: Scope, name: str, what: str, rank: int) -> Array:
    """A weight of a node, in float32 or float64."""
    value = scope.constant(name) if name else None
    if not name:
        raise ValueError(f"{what} is missing")
    if value is None:
        maker = scope.maker(name)
        of = f"comes out of {maker.op_type}" if maker is not None else "is an input of the model"
        raise Unsupported(
            scope.source.file, name, f"{what} is not constant: it {of}, and fastlstm keeps weights"
        )
    if value.ndim != rank:
        raise ValueError(f"{what} must have {rank} axes, got shape {value.shape}")
    if str(value.dtype) in ("float16", "bfloat16"):
        scope.source.notes.append(f"{value.dtype} weights widened to float32")
        scope.source.spend(value.size * 4, name)
        return value.astype(np.float32)
    if value.dtype not in (np.float32, np.float64):
        raise ValueError(f"{what} must hold floats, got {value.dtype}")
    return value


def _dequantised(scope: Scope, inputs: list[str], at: int) -> Array:
    """W or R of a DynamicQuantizeLSTM, (D, inputs, 4H) there, as LSTM has it."""
    what, first = "WR"[at - 1], 8 + 2 * (at - 1)
    whole, scale, zero = (
        scope.constant(inputs[i]) if inputs[i] else None for i in (at, first, first + 1)
    )
    if whole is None or scale is None:
        raise Unsupported(scope.source.file, inputs[at], f"{what} or its scale is not constant")
    if whole.ndim != 3 or whole.dtype.kind not in "iu":
        raise ValueError(f"{what} must hold int8 of three axes, got {whole.dtype} {whole.shape}")
    scope.source.spend(4 * whole.size, inputs[at])
    numbers = np.ascontiguousarray(whole.transpose(0, 2, 1), np.float32)
    if zero is not None:
        numbers -= zero.astype(np.float32).reshape(len(zero), -1, 1)
    numbers *= scale.astype(np.float32).reshape(len(scale), -1, 1)
    return numbers


def _weights(
    source: Source,
    name: str,
    kind: str,
    w: Array,
    r: Array,
    b: Array | None,
    p: Array | None,
) -> dict[str, Array]:
    """The weights of one direction in torch's names and order."""
    source.spend(w.nbytes + r.nbytes, name)
    found = {"weight_ih": to_torch(w, kind, "onnx"), "weight_hh": to_torch(r, kind, "onnx")}
    if b is not None:
        if len(b) != 2 * len(r):
            raise ValueError(f"B must have {2 * len(r)} columns, got {len(b)}")
        found |= {
            "bias_ih": to_torch(b[: len(r)], kind, "onnx"),
            "bias_hh": to_torch(b[len(r) :], kind, "onnx"),
        }
    if p is not None:
        if len(p) != 3 * r.shape[1]:
            raise ValueError(f"P must have {3 * r.shape[1]} columns, got {len(p)}")
        parts = dict(zip(ONNX_PEEPHOLES, np.split(p, 3), strict=True))
        found |= {f"weight_c{gate}": np.ascontiguousarray(parts[gate]) for gate in "ifo"}
    return found


def _initial_state(
    scope: Scope, kind: str, inputs: list[str], batch_first: bool, sizes: tuple[int, int]
) -> tuple[tuple[Array, ...] | None, bool]:
    """The initial state that a file holds, None for zeros; and whether a call feeds one instead."""
    names = [inputs[5], inputs[6]] if kind == "lstm" else [inputs[5]]
    values: list[Array] = []
    directions, hidden = sizes
    for name in names:
        same = scope.uniform(name) if name else 0.0
        if same is not None:
            values.append(np.full((directions, 1, hidden), same, np.float32))
            continue
        constant = scope.constant(name)
        if constant is None:
            return None, True
        if constant.ndim != 3:
            raise ValueError(f"an initial state must have 3 axes, got shape {constant.shape}")
        values.append(constant.transpose(1, 0, 2) if batch_first else constant)
    if not any(value.any() for value in values):
        return None, False
    return tuple(values), False


def _others(nodes: list[tuple[Scope, str, Any]], joined: set[int]) -> dict[str, Other]:
    """What stands around recurrent layers: nodes that depend on the values of inputs."""
    onnx = library("onnx", "onnx", "read ONNX files")
    found = {}
    for scope, name, node in nodes:
        made = [each for each in node.output if each]
        if is_recurrent(node) or id(node) in joined or all(scope.of_shapes(each) for each in made):
            continue
        config = {
            a.name: onnx.helper.get_attribute_value(a)
            for a in node.attribute
            if not a.HasField("g") and not a.HasField("t") and not a.graphs
        }
        weights = {
            each: array
            for each in node.input
            if each and scope.owner(each) is not None
            if (array := scope.constant(each)) is not None
        }
        found[name] = Other(name, node.op_type, config, weights)
    return found


def _looks_recurrent(node: Any) -> bool:
    """Whether a loop's body has the products and activations of a cell, and no recurrent node."""
    kinds = {step.op_type for a in node.attribute if a.HasField("g") for step in a.g.node}
    products = kinds & {"MatMul", "Gemm"}
    return bool(products and kinds & {"Tanh", "Sigmoid"} and not kinds & {*KINDS, _QUANTISED})


def _nothing(nodes: list[tuple[Scope, str, Any]]) -> str:
    """Why there is nothing to take."""
    kinds = {node.op_type for _, _, node in nodes}
    text = "it has no LSTM, GRU or RNN node"
    if kinds & {"Sigmoid", "Tanh", "Relu"} and kinds & {"MatMul", "Gemm"}:
        return (
            f"{text}, but MatMul and activations: a cell that its exporter unrolled into gates "
            "is not recognised; export the layer itself (an older opset or another exporter)"
        )
    return text


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
