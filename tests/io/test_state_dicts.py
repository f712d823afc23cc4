# SPDX-License-Identifier: BSD-3-Clause
"""Models from state dicts: sizes from names and shapes, wherever in a checkpoint they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTM

F, H = 3, 4
CONFIGS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bias": False},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False, "dtype": "float64"},
]
MODEL = LSTM(F, H, 2, bidirectional=True, seed=0)
STATE = MODEL.state_dict()


def prefixed(prefix: str, state: Mapping[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def same(a: Any, b: Any) -> bool:
    return a.config() == b.config() and all(
        np.array_equal(value, b.state_dict()[name]) for name, value in a.state_dict().items()
    )


def refused(error: type[Exception], words: str, *args: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        LSTM.from_state_dict(*args, **options)
    assert caught.type is error
    assert re.search(words, str(caught.value)), str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("options", CONFIGS, ids=str)
@pytest.mark.parametrize("prefix", ["", "rnn.", "encoder.lstm.", "a.b.0.c."])
def test_names_and_shapes_say_what_it_is(options: dict[str, Any], prefix: str) -> None:
    model = LSTM(F, H, **options, seed=0)
    given = prefixed(prefix, model.state_dict())
    if prefix:
        given |= {"head.weight": np.zeros((2, 8)), "steps": np.zeros((), int)}
    for where in (None, prefix, prefix.removesuffix(".")):
        assert same(LSTM.from_state_dict(given, where), model)
    loaded = LSTM.from_state_dict(given)
    for value in given.values():
        assert not any(np.shares_memory(value, mine) for mine in loaded.state_dict().values())


def test_what_a_state_dict_does_not_tell() -> None:
    model = LSTM.from_state_dict(STATE, batch_first=True, dropout=0.25, gemm="native")
    assert (model.batch_first, model.dropout, model.gemm) == (True, 0.25, "native")

    class Special(LSTM):
        pass

    assert type(Special.from_state_dict(STATE)) is Special
    with pytest.raises(ValueError, match="dropout"):
        LSTM.from_state_dict(STATE, dropout=2)
    with pytest.raises(TypeError, match="batch_first"):
        LSTM.from_state_dict(STATE, batch_first=1)  # type: ignore[arg-type]


def test_names_of_a_cell_are_layer_0() -> None:
    cell = fastlstm.LSTMCell(F, H, seed=0)
    expected = {f"{name}_l0": value for name, value in cell.state_dict().items()}
    for prefix in ("", "decoder.cell."):
        model = LSTM.from_state_dict(prefixed(prefix, cell.state_dict()))
        assert all(np.array_equal(model.state_dict()[n], v) for n, v in expected.items())
    state = cell.state_dict()
    del state["bias_hh"]
    text = refused(
        ValueError, r"missing: bias_hh; bias_hh missing beside bias_ih: give zeros", state
    )
    assert "_l0" not in text


WRAPPERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Lightning": lambda s: {
        "epoch": 3,
        "state_dict": {f"model.{name}": value for name, value in s.items()},
        "optimizer_states": [{"state": {0: {"exp_avg": np.zeros(3)}}}],
        "hyper_parameters": {"hidden": 4},
    },
    "model_state_dict": lambda s: {
        "model_state_dict": s,
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "loss": 0.5,
    },
    "model": lambda s: {"model": s, "args": {"lr": 1e-3}},
    "module": lambda s: {"module": s},
    "wrapped twice": lambda s: {"checkpoint": {"net": s}},
    "the same mapping twice": lambda s: {"model": s, "state_dict": s},
    "DataParallel": lambda s: {f"module.{name}": value for name, value in s.items()},
    "torch.compile": lambda s: {f"_orig_mod.{name}": value for name, value in s.items()},
    "both": lambda s: {"state_dict": prefixed("module._orig_mod.", s)},
}


@pytest.mark.parametrize("how", WRAPPERS)
def test_wrappers_are_looked_through(how: str) -> None:
    given = WRAPPERS[how](prefixed("lstm.") | {"fc.bias": np.zeros(2)})
    assert same(LSTM.from_state_dict(given), MODEL)
    prefix = "model.lstm" if how == "Lightning" else "lstm"
    assert same(LSTM.from_state_dict(given, prefix), MODEL)
    assert same(LSTM.from_state_dict(given, prefix + "."), MODEL)


def test_a_wrapper_inside_a_name_and_around_a_bare_lstm() -> None:
    assert same(LSTM.from_state_dict(prefixed("encoder._orig_mod.lstm."), "encoder.lstm"), MODEL)
    assert same(LSTM.from_state_dict(prefixed("module."), ""), MODEL)


def test_several_are_listed() -> None:
    other = LSTM(5, 7, seed=1)
    both = {"state_dict": {**prefixed("enc."), **prefixed("dec.rnn.", other.state_dict())}}
    text = refused(ValueError, "several LSTMs", both)
    assert "'dec.rnn.' in state_dict['state_dict'], 'enc.' in" in text
    assert same(LSTM.from_state_dict(both, "enc."), MODEL)
    assert same(LSTM.from_state_dict(both, "dec.rnn"), other)
    refused(ValueError, r"prefix must be one of 'dec.rnn.'.*'enc.'.*, got 'rnn.'", both, "rnn.")
    refused(ValueError, "prefix must be one of", both, "")
    averaged = {"model": prefixed("lstm."), "ema": prefixed("lstm.")}
    text = refused(ValueError, "several LSTMs", averaged, "lstm.")
    assert "state_dict['model']" in text
    assert "state_dict['ema']" in text


def test_names_of_norms_in_other_layers() -> None:
    """What only a normed LSTM or one with peepholes has makes no layer alone."""
    others = {"head.weight_n": np.ones(3), "head.bias_nc": np.ones(3), "w.weight_ci": np.ones(3)}
    assert same(LSTM.from_state_dict({**others, **prefixed("enc.")}), MODEL)
    assert same(LSTM.from_state_dict({**others, "model": prefixed("enc.")}), MODEL)
    refused(ValueError, "state_dict has no LSTM", others)


def test_the_only_lstm_beside_other_layers() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict(
        {"gru": torch.nn.GRU(F, H), "rnn": torch.nn.RNN(F, H), "lstm": torch.nn.LSTM(F, H)}
    )
    found = LSTM.from_state_dict(model.state_dict())
    assert np.array_equal(found.weight_hh_l0, model["lstm"].weight_hh_l0.detach())
    refused(
        ValueError, "gru.weight_hh_l0 must have .* three gates, as a GRU", model.state_dict(), "gru"
    )
    refused(
        ValueError, "rnn.weight_hh_l0 must have .* one gate, as an RNN", model.state_dict(), "rnn"
    )
    refused(ValueError, "three gates, as a GRU has", model["gru"].state_dict())


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in STATE.items() if name not in names}


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


LAYER_1 = [name for name in STATE if "_l1" in name]
BAD: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "no LSTM.*nothing"),
    "another model": ({"conv.weight": zeros(3), "conv.bias": zeros(3)}, "no LSTM.*'conv.weight'"),
    "a hole": (
        {name.replace("_l1", "_l2"): value for name, value in STATE.items()},
        "missing: weight_ih_l1, ",
    ),
    "no layer 0": ({name: STATE[name] for name in LAYER_1}, "missing: weight_ih_l0, "),
    "the thousandth layer": ({**STATE, "weight_ih_l9999": zeros(16, 8)}, "missing: weight_ih_l2, "),
    "one reverse missing": (
        without(*(name for name in LAYER_1 if "reverse" in name)),
        "missing: weight_ih_l1_reverse, weight_hh_l1_reverse, bias_ih_l1_reverse",
    ),
    "one weight missing": (without("weight_hh_l1"), "missing: weight_hh_l1$"),
    "biases of one layer": (
        without(*(name for name in LAYER_1 if "bias" in name)),
        "missing: bias_ih_l1, bias_hh_l1, bias_ih_l1_reverse, bias_hh_l1_reverse$",
    ),
    "one bias of two": (
        without(*(name for name in STATE if "bias_hh" in name)),
        "bias_hh_l0_reverse, .* missing beside bias_ih_l0, .*: give zeros",
    ),
    "the other bias": (without("bias_ih_l1"), "bias_ih_l1 missing beside bias_hh_l1: give zeros"),
    "biases alone": ({"bias_ih_l0": zeros(16), "bias_hh_l0": zeros(16)}, "missing: weight_ih_l0"),
    "cell and layer": ({**STATE, "weight_ih": zeros(16, 3)}, "beside.*: weight_ih;"),
    "a name too many": ({**STATE, "weight_cg_l0": zeros(4)}, "beside.*: weight_cg_l0;"),
    "a peephole": (
        {**STATE, "weight_ci_l0": zeros(4)},
        r"weight_ci_l0 is a peephole's weight: .*options=LSTMOptions\(peepholes=True",
    ),
    "a norm beside it": (prefixed("c.") | {"c.norm.weight": zeros(4)}, "'c.': c.norm.weight;"),
    "a leading zero": ({**STATE, "weight_ih_l01": zeros(4)}, "weight_ih_l01"),
    "other units": ({**STATE, "weight_hh_l1": zeros(20, 5)}, r"weight_hh_l1 has shape \(20, 5\)"),
    "other inputs": ({**STATE, "weight_ih_l1": zeros(16, 4)}, r"\(16, 4\), must have \(16, 8\)"),
    "transposed": ({**STATE, "weight_hh_l0": zeros(4, 16)}, r"\(4 H, H\).*got \(4, 16\)"),
    "no matrix": ({**STATE, "weight_hh_l0": zeros(16)}, r"\(4 H, H\).*got \(16,\)"),
    "no units": ({**STATE, "weight_hh_l0": zeros(0, 0)}, "weight_hh_l0|hidden_size"),
    "parametrized": (
        {**without("weight_hh_l0"), "parametrizations.weight_hh_l0.original0": zeros(16, 1)},
        r"parts of weight_hh_l0.*from_torch.*remove_parametrizations",
    ),
    "pruned": (
        prefixed("a.", {**without("weight_hh_l0"), "weight_hh_l0_orig": zeros(16, 4)}),
        "parts of a.weight_hh_l0",
    ),
    "weight_norm": ({**without("weight_hh_l1"), "weight_hh_l1_g": zeros(16, 1)}, "parts of weight"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_lstm(what: str) -> None:
    refused(ValueError, BAD[what][1], BAD[what][0])


@pytest.mark.parametrize("value", [None, 3, "model.pt", [("weight_ih_l0", 1)], MODEL], ids=type)
def test_what_is_no_mapping(value: Any) -> None:
    refused(TypeError, "state_dict must be a mapping", value)


@pytest.mark.parametrize("prefix", [3, b"rnn.", ["rnn."], True])
def test_bad_prefix(prefix: Any) -> None:
    refused(TypeError, "prefix must be a str", STATE, prefix)


# ---- dtypes ----


@pytest.mark.parametrize(
    ("given", "made"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_the_dtype_is_that_of_the_values(given: str, made: str) -> None:
    state = {name: value.astype(given) for name, value in STATE.items()}
    model = LSTM.from_state_dict(state)
    assert model.dtype == made
    assert all(np.array_equal(model.state_dict()[n], v) for n, v in state.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32"])
@pytest.mark.parametrize("given", ["float16", "float32", "float64", "longdouble", "lists"])
def test_conversion_on_request(dtype: Any, given: str) -> None:
    wide = {n: v.astype(np.float64) + 1e-12 for n, v in STATE.items()}
    if given == "lists":
        state: dict[str, Any] = {name: value.tolist() for name, value in wide.items()}
    else:
        state = {name: value.astype(given) for name, value in wide.items()}
    model = LSTM.from_state_dict(state, dtype=dtype)
    assert model.dtype == dtype
    for name, value in model.state_dict().items():
        assert np.array_equal(value, np.array(state[name]).astype(dtype))


def test_whole_numbers_in_lists() -> None:
    state = {"weight_ih_l0": [[1]] * 4, "weight_hh_l0": [[0.5]] * 3 + [(2,)]}
    model = LSTM.from_state_dict(state, dtype=np.float32)
    assert model.weight_ih_l0.tolist() == [[1]] * 4
    assert model.weight_hh_l0.tolist() == [[0.5]] * 3 + [[2]]


@pytest.mark.parametrize(
    ("change", "dtype", "error", "words"),
    [
        (lambda a: a.tolist(), None, TypeError, "list of numbers.*np.float32"),
        (lambda a: a.astype(np.longdouble), None, TypeError, "float dtype of 64 bits"),
        (lambda a: a.astype(np.int8), None, TypeError, "int8"),
        (lambda a: a.astype(np.int8), np.float32, TypeError, "int8"),
        (lambda a: a.astype(complex), np.float32, TypeError, "complex"),
        (lambda a: (a > 0).tolist(), np.float32, TypeError, "bool"),
        (lambda a: [["a"] * a.shape[1]] * 16, np.float32, TypeError, "<U1"),
        (lambda a: [[1.0], [1.0, 2.0]], np.float32, TypeError, "weight_hh_l0"),
        (lambda a: None, np.float32, TypeError, "NoneType"),
        (lambda a: "w", np.float32, TypeError, "str"),
        (lambda a: a.astype(np.float64) + 1e39, np.float32, ValueError, "beyond float32"),
        (lambda a: np.ma.masked_array(a), np.float32, TypeError, "masked"),
        (lambda a: a, "float16", TypeError, "dtype"),
        (lambda a: a, int, TypeError, "dtype"),
    ],
)
def test_no_conversion(change: Any, dtype: Any, error: type[Exception], words: str) -> None:
    changed = {**STATE, "weight_hh_l0": change(STATE["weight_hh_l0"])}
    assert "weight_hh_l0" in refused(error, words, changed, dtype=dtype) or words == "dtype"


def test_infinities_stay() -> None:
    state = {**STATE, "bias_ih_l0": np.full(4 * H, -np.inf)}
    assert np.isneginf(LSTM.from_state_dict(state, dtype=np.float32).bias_ih_l0).all()


# ---- mappings of another mind ----


class Counting(Mapping[str, Any]):
    """Makes its arrays when asked for, and counts how often."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state, self.reads, self.lists = state, dict.fromkeys(state, 0), 0

    def __getitem__(self, name: str) -> Any:
        self.reads[name] += 1
        value = self.state[name]
        return value if isinstance(value, Mapping) else value + 0

    def __iter__(self) -> Iterator[str]:
        self.lists += 1
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def test_every_value_is_read_once() -> None:
    mapping = Counting(prefixed("a.") | {f"a2.{name}": STATE[name] for name in STATE})
    assert same(LSTM.from_state_dict(mapping, "a."), MODEL)
    assert all(count == name.startswith("a.") for name, count in mapping.reads.items())
    gru = {"g.weight_hh_l0": zeros(3 * H, H), "g.weight_ih_l0": zeros(3 * H, F)}
    mapping = Counting(prefixed("a.") | gru)
    assert same(LSTM.from_state_dict(mapping), MODEL)
    assert set(mapping.reads.values()) == {0, 1}
    outer = Counting({"model": Counting(STATE)})
    assert same(LSTM.from_state_dict(outer), MODEL)
    assert outer.reads == {"model": 1}
    mapping = Counting(STATE)
    LSTM(F, H, 2, bidirectional=True).load_state_dict(mapping)
    assert set(mapping.reads.values()) == {1}


def test_a_mapping_that_holds_itself() -> None:
    state: dict[str, Any] = {"a": 1}
    state |= {"b": state, "c": {"d": state}}
    refused(ValueError, "no LSTM", state)
    state["lstm"] = STATE
    assert same(LSTM.from_state_dict(state), MODEL)


def test_keys_that_are_no_strings() -> None:
    assert same(LSTM.from_state_dict({3: zeros(2), None: 1, **prefixed("lstm.")}), MODEL)


class Reshaped(Mapping[str, Any]):
    """Hands out an array and changes its shape when the next one is asked for."""

    def __init__(self) -> None:
        self.before: np.ndarray | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        if self.before is not None:
            self.before.resize((1,), refcheck=False)
        self.before = STATE[name].copy()
        return self.before

    def __iter__(self) -> Iterator[str]:
        return iter(STATE)

    def __len__(self) -> int:
        return len(STATE)


def test_arrays_that_change_later() -> None:
    """What has been loaded is loaded; from_state_dict refuses what no longer fits."""
    model = LSTM(F, H, 2, bidirectional=True, seed=1)
    model.load_state_dict(Reshaped())
    assert same(model, MODEL)
    with pytest.raises(ValueError, match="has shape"):
        LSTM.from_state_dict(Reshaped())


def test_memory_errors_stay_what_they_are() -> None:
    class Greedy:
        def __array__(self, *args: Any, **options: Any) -> np.ndarray:
            raise MemoryError("no more")

    state = {**STATE, "bias_hh_l0": Greedy()}
    with pytest.raises(MemoryError):
        LSTM.from_state_dict(state)
    with pytest.raises(MemoryError):
        LSTM(F, H, 2, bidirectional=True).load_state_dict(state)
