"""One step of a training, and what is logged of it: views from a seed of their own, and named parts of the loss."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from .resumable import ResumableTrainer


class SteppingTrainer(ResumableTrainer):
    """A ``Trainer`` whose steps make their views, and whose logs have the mean of each part of the loss."""

    views: nn.Module
    loss_is_scaled_for_ga = False  # the losses are means over the micro-batch

    def __init__(self, *args: Any, **options: Any):
        self._micro_step, self._window = 0, (time.perf_counter(), 0)
        super().__init__(*args, **options)

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        generator = torch.Generator().manual_seed(self._view_seed())
        self._micro_step += 1
        images = inputs.pop("pixel_values")
        used = self.model.rows_used(len(images), inputs.get("labelled"))
        if used < len(images):
            inputs |= {name: inputs[name][:used] for name in ("labels", "index")}
        return {"views": self.views(images[:used], generator), **inputs}

    def _begin_step(self) -> None:
        self._micro_step = 0

    def _view_seed(self) -> int:
        """One number for (seed, step, micro-step, process): SplitMix64's constants keep neighbours apart."""
        mixed = self.args.seed
        for part in (self.state.global_step, self._micro_step, self.args.process_index):
            mixed = (mixed * 0x9E3779B97F4A7C15 + part + 0xBF58476D1CE4E5B9) % 2**64
            mixed ^= mixed >> 31
        return mixed % 2**63

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name, part in outputs.parts.items():
            self._parts[name].append(part.detach())
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _get_grad_norm(self, model, grad_norm=None):
        """None where this step is not logged: without clipping nobody else wants it, and it takes its time."""
        unseen = self.args.logging_strategy == "steps" and (self.state.global_step + 1) % self.state.logging_steps
        return None if grad_norm is None and unseen else super()._get_grad_norm(model, grad_norm)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not math.isfinite(logs.get("loss", 0.0)) and not self.args.fp16:  # under fp16 the scaler skips such steps
            wrong = sorted(name for name, values in self._parts.items() if not torch.stack(values).isfinite().all())
            raise self.diverged(f"the loss is {logs['loss']}", f" (not finite: {', '.join(wrong) or 'none here'})")
        if "loss" in logs and self._parts:
            logs.update(self._window_parts())
            now, (then, step) = time.perf_counter(), self._window
            logs["images_per_second"] = (self.state.global_step - step) * self.args.global_batch / (now - then)
            self._window = (now, self.state.global_step)
        super().log(logs, start_time)

    def _window_parts(self) -> dict[str, float]:
        """Mean of each part since the last log, over all processes. Every process must call it."""
        names = sorted(self._parts)
        means = torch.stack([torch.stack(self._parts[name]).float().mean() for name in names])
        self._parts.clear()
        return dict(zip(names, self.accelerator.reduce(means, reduction="mean").tolist(), strict=True))
