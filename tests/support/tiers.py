# SPDX-License-Identifier: BSD-3-Clause
"""Which tests `make smoke` runs: under a minute on two cores, something of everything.

A choice that has to stay within a budget is made in one place, where it can be seen as a whole.
Keys are a module below tests/, or one test of it. Of the cases of a test (its parameters, in the
order in which they are collected) every n-th is run, n being the value.
"""

from __future__ import annotations

SMOKE: dict[str, dict[str, int]] = {
    "the package imports, and what stands in two places agrees": {
        "process/test_process.py::test_import_is_light": 1,
        "packaging/test_contract.py": 1,
        "packaging/test_map.py": 1,
        "packaging/test_packaging.py::test_metadata": 1,
        "packaging/test_rooms.py": 1,
    },
    "the reference is right": {
        "numerics/test_reference.py::test_one_step_by_hand": 1,
        "numerics/test_reference.py::test_agrees_with_torch": 10,
        "numerics/test_reference_backward.py::test_one_step_by_hand": 1,
        "numerics/test_reference_backward.py::test_agrees_with_torch": 10,
        "numerics/test_reference_dropout.py::test_philox_known_answers": 1,
    },
    "forward and backward agree with it, on every instruction set": {
        "numerics/test_engine.py::test_isa_is_the_one_asked_for": 1,
        "numerics/test_engine.py::test_agrees_with_the_reference": 10,
        "numerics/test_engine.py::test_blas_agrees_with_the_reference": 25,
        "numerics/test_engine.py::test_cell_is_one_step": 1,
        "numerics/test_training.py::test_agrees_with_the_reference": 10,
        "numerics/test_training.py::test_blas_agrees_with_the_reference": 12,
    },
    "so do the RNN and the GRU": {
        "numerics/test_rnn.py::test_agrees_with_the_reference": 10,
        "numerics/test_rnn.py::test_agrees_with_torch": 10,
        "numerics/test_rnn.py::test_stream_in_chunks_is_the_whole": 8,
        "unit/test_rnn_api.py": 1,
        "unit/test_gru_api.py": 1,
    },
    "bits do not depend on threads, padding, chunks or the instruction set": {
        "numerics/test_bits.py::test_any_number_of_threads": 2,
        "numerics/test_bits.py::test_padded_or_ragged": 4,
        "numerics/test_bits.py::test_avx2_and_avx512_agree": 1,
        "numerics/test_training_bits.py::test_outputs_are_those_of_a_call": 2,
        "numerics/test_training_bits.py::test_backward_again": 1,
    },
    "streams": {
        "numerics/test_bits.py::test_whole_in_chunks_or_step_by_step": 11,
        "unit/test_streams.py": 1,
    },
    "models and optimisers as objects": {
        "unit/test_api.py": 1,
        "unit/test_training_modes.py": 1,
        "unit/test_optim.py::test_bits_of_the_equations": 3,
    },
    "training and estimators without PyTorch": {
        "nn/test_nn_models.py::test_gradients": 6,
        "nn/test_checkpoints.py::test_going_on_is_going_on": 3,
        "estimators/test_estimators.py::test_inside_scikit_learn": 1,
    },
    "bad input is refused, and kills nobody": {
        "unit/test_bad_input.py": 1,
        "unit/test_bad_arrays.py": 1,
        "unit/test_border.py": 1,
        "unit/test_misuse.py": 8,
    },
    "saving and loading": {
        "io/test_storage.py": 1,
        "io/test_state_dicts.py": 1,
        "io/test_loading.py": 1,
        "process/test_atomic.py::test_load_state_dict": 1,
    },
    "threads, forks and signals": {
        "process/test_process.py::test_fork": 1,
        "process/test_process.py::test_threads_share_a_model": 2,
        "process/test_interrupts.py::test_interrupt": 4,
    },
    "a swap in torch, and its gradients": {
        "pytorch/test_torch_swap.py::test_accelerate_and_restore": 1,
        "pytorch/test_torch_module.py::test_batches": 12,
        "pytorch/test_torch_module.py::test_matches_numpy_bit_for_bit": 1,
    },
}
EVERY = {key: n for chosen in SMOKE.values() for key, n in chosen.items()}


class Smoke:
    """Asked about test after test, in the order of collection."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def has(self, module: str, test: str) -> bool:
        """`module` as in the keys, `test` without its parameters."""
        name = f"{module}::{test}"
        key = name if name in EVERY else module
        if key not in EVERY:
            return False
        at = self.seen.get(name, 0)
        self.seen[name] = at + 1
        return at % EVERY[key] == 0
