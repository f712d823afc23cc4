# SPDX-License-Identifier: BSD-3-Clause
"""A plan in words."""

from __future__ import annotations

from typing import Any

from .spec import Spec


def _size(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.4g} GiB"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _split(plan: dict[str, Any]) -> str:
    if plan["threads"] == 1:
        return "one thread"
    parts = []
    if plan["dir_groups"] > 1:
        parts.append("the directions side by side")
    if plan["row_groups"] > 1:
        parts.append(f"the batch in {plan['row_groups']} parts (no barrier)")
    if plan["unit_groups"] > 1:
        parts.append(f"the hidden units in {plan['unit_groups']} parts (one barrier a step)")
    return f"{plan['threads']} threads: " + ", ".join(parts)


_LEVELS = {2: "second-level cache", 3: "third-level cache", 4: "memory"}


def _limit(estimate: dict[str, Any]) -> str:
    """What takes most of a run by the planner's cost model, which knows nothing of Python."""
    total, multiply, read = (estimate[name] for name in ("total", "multiply", "read"))
    if total == 0:
        return "nothing to do"
    if read > multiply and read >= total / 2:
        source = _LEVELS[estimate["level"]]
        return f"reading weights from {source}, {read / total:.0%} of its rate expected"
    peak = f"{multiply / total:.0%} of the multiply-add peak expected"
    return (
        f"multiply-adds, {peak}"
        if multiply >= total / 2
        else f"activations and the chain of steps, {peak}"
    )


def explain(title: str, spec: Spec, steps: int, plan: dict[str, Any]) -> str:
    """The lines that the `explain` of a model returns."""
    full, rest = plan["full"], plan["rest"]
    what = "panel" if plan["bundle"] == 1 else "bundle"
    panels = f"{_many(full, what)} of {_many(plan['units'], 'unit')}" if full else ""
    if rest:
        panels += (", 1 of " if full else f"1 {what} of ") + _many(rest, "unit")
    if plan["bundle"] > 1:
        panels += f", {plan['bundle']} panels a bundle"
    if plan["project_steps"]:
        how = "BLAS" if spec.gemm == "blas" else "our kernel"
        project = f"{plan['project_steps']} steps ahead of the recurrence, by {how}"
    else:
        project = "inside each step"
    output = []
    if spec.proj_size:
        output = [
            f"output       projected to {spec.proj_size} of {spec.hidden_size} values, "
            "after a barrier where threads share units"
        ]
    if spec.cell == "gru_reset_before":
        output = [
            "stages       r and z, then n from r h, after a barrier where threads share units"
        ]
    chains = "one partial sum" if plan["chains"] == 1 else f"{plan['chains']} partial sums"
    return "\n".join(
        [
            title,
            f"kernels      {plan['isa']}, {spec.dtype.name}",
            f"split        {_split(plan)}",
            f"panels       {panels}, recurrent products in {chains}",
            f"projection   {project}",
            *output,
            f"blocks       {min(plan['block_steps'], max(steps, 1))} steps of a layer at a time",
            f"limit        {_limit(plan['estimate'])}",
            f"workspace    {_size(plan['workspace_bytes'])}",
            f"weights      {_size(plan['weight_bytes'])} packed",
        ]
    )
