# SPDX-License-Identifier: BSD-3-Clause
"""Variants of the LSTM cell, checked once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from . import checks

Activation: TypeAlias = str | tuple[str | float, ...]

# Name -> alpha and beta if nobody says, as many as it has: those of the ONNX operators.
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "hard_sigmoid": (0.2, 0.5),
    "relu": (),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "elu": (1.0,),
    "softsign": (),
    "softplus": (),
    "scaled_tanh": (1.0, 1.0),
    "affine": (1.0, 0.0),
    "linear": (),
}
LAYER_NORMS = ("sums", "separate")
_USUAL_EPSILON = 1e-5
# What is random in training, each a probability.
NOISE = (
    "zoneout_c",
    "zoneout_h",
    "recurrent_dropout",
    "variational_dropout",
    "input_dropout",
    "weight_drop",
)
_MOST = 1e30  # of alpha and beta: times 2 log2 e, float32 still holds them


@dataclass(frozen=True, repr=False)
class LSTMOptions:
    """What makes an LSTM another one than the plain one; options combine as they like.

    Parameters
    ----------
    peepholes : bool, default False
        Whether input and forget gate also read the old c, and the output gate the new one, by
        weights ``weight_ci_l0``, ``weight_cf_l0`` and ``weight_co_l0``, (H,) each.
    coupled : bool, default False
        Whether f is 1 - i (CIFG). The forget gate's part of weights and biases is there
        nevertheless, and has no effect.
    forget_gate : bool, default True
        Whether there is a forget gate; else f is 1, as in the LSTM of 1997, and its part of weights
        and biases has no effect.
    forget_bias : float, optional
        First value of the forget gate's bias: of its part of bias_ih, with zeros in bias_hh. None:
        as all other parameters.
    gate_clip : float, optional
        Bound of what the activations of gates and candidate are given, as ``clip`` of ONNX.
    cell_clip : float, optional
        Bound of c, as in TensorFlow Lite. Gradients of what a clip bounds are zero.
    proj_clip : float, optional
        Bound of h where it is projected (``proj_size``), likewise.
    layer_norm : {None, "sums", "separate"}, default None
        Layer normalisation. "sums" is TensorFlow Lite's: the sums of each gate, with peepholes and
        without biases, times ``weight_n_l0``, (4H,). "separate" is that of Ba, Kiros and Hinton
        (2016): the sums of x and those of h, each over all gates, times ``weight_nx_l0`` and
        ``weight_nh_l0``, (4H,) each, and what the output activation takes of c, times
        ``weight_nc_l0`` plus ``bias_nc_l0``, (H,) each. There the forget gate's sums count where
        it has no effect, too.
    norm_epsilon : float, default 1e-5
        What is added to variances (TensorFlow Lite has 1e-8).
    gate_activation, candidate_activation, output_activation : str or tuple
        What makes i, f and o, what makes g, and what c passes on its way to h: a name, or a name
        with alpha and, where there is one, beta, ``("hard_sigmoid", 1 / 6, 0.5)`` for example.
        There are sigmoid, tanh, hard_sigmoid, relu, leaky_relu, thresholded_relu, elu, softsign,
        softplus, scaled_tanh, affine and linear, as ONNX defines them.
    zoneout_c, zoneout_h : float, default 0.0
        Probability with which each value of c, or of h, stays as it was at the step before. This
        and what follows acts in `forward` in training mode; at inference c and h are what is
        expected of them, p old + (1 - p) new.
    recurrent_dropout : float, default 0.0
        Probability of dropout of g, with a new mask at each step. Of each dropout, values that it
        keeps are divided by 1 - p, and there is none at inference.
    variational_dropout : float, default 0.0
        Probability of dropout of the h that the next step's product reads, with one mask for all
        steps of a sequence; what else reads h has it whole.
    input_dropout : float, default 0.0
        Probability of dropout of what each layer reads, with one mask for all steps of a sequence.
    weight_drop : float, default 0.0
        Probability of dropout of the elements of weight_hh, with one mask for a whole pass.

    Raises
    ------
    TypeError, ValueError
        A wrong argument, or some that exclude each other.

    Notes
    -----
    The equations, forward and backward, and all sources stand in ``fastlstm.reference.options``,
    ``fastlstm.reference.normalization``, ``fastlstm.reference.activations`` and
    ``fastlstm.reference.noise``.

    References
    ----------
    F. Gers and J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000 (peepholes).

    K. Greff et al., "LSTM: a search space odyssey", IEEE TNNLS 28(10), 2017 (coupled gates).

    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", arXiv:1607.06450, 2016.

    D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations",
    arXiv:1606.01305, 2016.

    S. Semeniuta, A. Severyn and E. Barth, "Recurrent dropout without memory loss", COLING 2016.

    Y. Gal and Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural
    networks", NIPS 2016 (variational and input dropout).

    S. Merity, N. Keskar and R. Socher, "Regularizing and optimizing LSTM language models",
    arXiv:1708.02182, 2017 (weight drop).

    Examples
    --------
    >>> import fastlstm
    >>> options = fastlstm.LSTMOptions(peepholes=True, cell_clip=10.0)
    >>> lstm = fastlstm.LSTM(3, 4, options=options, seed=0)
    >>> lstm.weight_ci_l0.shape
    (4,)
    >>> fastlstm.LSTM(3, 4, options={"gate_activation": "hard_sigmoid", "zoneout_h": 0.1})
    LSTM(3, 4, options=LSTMOptions(gate_activation='hard_sigmoid', zoneout_h=0.1), dtype=float32)
    """

    peepholes: bool = False
    coupled: bool = False
    forget_gate: bool = True
    forget_bias: float | None = None
    gate_clip: float | None = None
    cell_clip: float | None = None
    proj_clip: float | None = None
    layer_norm: str | None = None
    norm_epsilon: float = _USUAL_EPSILON
    gate_activation: Activation = "sigmoid"
    candidate_activation: Activation = "tanh"
    output_activation: Activation = "tanh"
    zoneout_c: float = 0.0
    zoneout_h: float = 0.0
    recurrent_dropout: float = 0.0
    variational_dropout: float = 0.0
    input_dropout: float = 0.0
    weight_drop: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            name: checks.flag(name, getattr(self, name))
            for name in ("peepholes", "coupled", "forget_gate")
        }
        if self.forget_bias is not None:
            checked["forget_bias"] = checks.number(
                "forget_bias", self.forget_bias, least=-_MOST, most=_MOST
            )
        for name in ("gate_clip", "cell_clip", "proj_clip"):
            if getattr(self, name) is not None:
                checked[name] = _limit(name, getattr(self, name))
        if self.layer_norm is not None:
            checked["layer_norm"] = _choice("layer_norm", self.layer_norm, LAYER_NORMS)
        checked["norm_epsilon"] = _epsilon(self.norm_epsilon)
        for name in ("gate_activation", "candidate_activation", "output_activation"):
            checked[name] = _activation(name, getattr(self, name))
        for name in NOISE:
            checked[name] = checks.probability(name, getattr(self, name))
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.coupled and not self.forget_gate:
            raise ValueError("coupled=True makes f of i, so it cannot go with forget_gate=False")
        if self.forget_bias is not None and (self.coupled or not self.forget_gate):
            raise ValueError("forget_bias needs a forget gate: coupled=False and forget_gate=True")

    def __repr__(self) -> str:
        parts = [f"{name}={getattr(self, name)!r}" for name in self.config()]
        return f"LSTMOptions({', '.join(parts)})"

    def config(self) -> dict[str, Any]:
        """The arguments that are not as by default, as plain Python values.

        Returns
        -------
        dict
            A new one: the class called with it makes the same options.

        Examples
        --------
        >>> import fastlstm
        >>> fastlstm.LSTMOptions(coupled=True, peepholes=False).config()
        {'coupled': True}
        """
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                found[field.name] = list(value) if isinstance(value, tuple) else value
        return found

    def equations(self) -> LSTMOptions | None:
        """Without what only parameters depend on: forget_bias (first ones), weight_drop.

        Returns
        -------
        LSTMOptions or None
            None where what is left is the plain LSTM.
        """
        left = dataclasses.replace(self, forget_bias=None, weight_drop=0.0)
        if self.layer_norm is None:
            left = dataclasses.replace(left, norm_epsilon=_USUAL_EPSILON)
        return None if left == LSTMOptions() else left

    def has_noise(self) -> bool:
        """Whether something is random in training.

        Returns
        -------
        bool
            True where one of the probabilities is not zero.

        Examples
        --------
        >>> import fastlstm
        >>> fastlstm.LSTMOptions(weight_drop=0.5).has_noise()
        True
        """
        return any(getattr(self, name) for name in NOISE)

    def _activations(self) -> list[tuple[str, float, float]]:
        """Name, alpha and beta of all three; 0 for a number that an activation does not have."""
        found = []
        for given in (self.gate_activation, self.candidate_activation, self.output_activation):
            name, *numbers = (given,) if isinstance(given, str) else given
            numbers = [*numbers, *ACTIVATIONS[str(name)][len(numbers) :], 0.0, 0.0]
            found.append((str(name), float(numbers[0]), float(numbers[1])))
        return found


def given(value: object) -> LSTMOptions | None:
    """Options, or a mapping of their arguments, as options; None stays None."""
    if value is None or type(value) is LSTMOptions:
        return value
    names = [field.name for field in dataclasses.fields(LSTMOptions)]
    if isinstance(value, LSTMOptions):  # a subclass, which never equals plain options
        return LSTMOptions(**{name: getattr(value, name) for name in names})
    if not isinstance(value, Mapping):
        raise TypeError(
            "options must be LSTMOptions, a mapping of its arguments or None, "
            f"got {type(value).__name__}"
        )
    unknown = [repr(name) for name in value if name not in names]
    if unknown:
        raise ValueError(f"options must be some of {', '.join(names)}, got {', '.join(unknown)}")
    return LSTMOptions(**value)


def chosen(
    value: object, proj_size: int | None = None
) -> tuple[LSTMOptions | None, str, LSTMOptions | None]:
    """What `given` makes of it; the row of `CELLS` that such an LSTM is, and the options that its
    specification holds. ValueError where they need a projection, and `proj_size` is 0."""
    options = given(value)
    equations = None if options is None else options.equations()
    if equations is not None and equations.proj_clip is not None and proj_size == 0:
        raise ValueError("options with a proj_clip need a proj_size")
    return options, "lstm" if equations is None else "lstm_general", equations


def _limit(name: str, value: object) -> float:
    limit = checks.number(name, value, least=-math.inf)
    if limit <= 0:
        raise ValueError(f"{name} must be > 0, or None for no clip, got {value!r}")
    return limit


def _choice(name: str, value: object, among: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(among)} or None, got {value!r}")
    if value not in among:
        raise ValueError(f"{name} must be one of {', '.join(among)} or None, got {value!r}")
    return str(value)  # plain, where it is NumPy's str


def _epsilon(value: object) -> float:
    """Kernels flush what is no normal float32, and the norm of equal numbers would be 0 / 0."""
    epsilon = checks.number("norm_epsilon", value, least=-math.inf)
    least, most = float(np.finfo(np.float32).tiny), 1e30
    if not least <= epsilon <= most:
        raise ValueError(f"norm_epsilon must be between {least:.3g} and {most:.3g}, got {value!r}")
    return epsilon


def _activation(name: str, value: object) -> Activation:
    """The name alone where alpha and beta are as by default, else a tuple with all of them."""
    parts = (value,) if isinstance(value, str) else value
    if not isinstance(parts, (tuple, list)) or not parts or not isinstance(parts[0], str):
        raise TypeError(f"{name} must be a name, or a tuple of a name and numbers, got {value!r}")
    kind, *given_numbers = parts
    kind = str(kind)  # plain, where it is NumPy's str
    if kind not in ACTIVATIONS:
        raise ValueError(f"{name} must be one of {', '.join(ACTIVATIONS)}, got {kind!r}")
    usual = ACTIVATIONS[kind]
    if len(given_numbers) > len(usual):
        what = ("no alpha or beta", "an alpha and no beta", "an alpha and a beta")[len(usual)]
        raise ValueError(f"{name}: {kind} has {what}, got {value!r}")
    checked = [
        checks.number(f"{letter} of {name}", number, least=-_MOST, most=_MOST)
        for letter, number in zip(("alpha", "beta"), given_numbers, strict=False)
    ]
    whole = (*checked, *usual[len(checked) :])
    return kind if whole == usual else (kind, *whole)
