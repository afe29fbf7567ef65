"""Train a process reward model from a pinned snapshot, on `transformers.Trainer` through its public hooks.

What differs from a fine-tune of a language model:

1. Rows are packed without padding and solutions of a question share what they have in common (`packing.py`).
2. The model returns logits at the labelled positions alone (`logits_to_keep`): no `[tokens, vocabulary]` is ever there.
3. One loss for hard and soft labels (`loss.py`): the sum over all labelled prefixes of an update, divided by how many
   they are, whatever the number of micro-batches or processes. Weights have a mean of 1 over the training data.
4. The dev split is made by question. It stops the training early, and the threshold is chosen on it.
5. Data, label rule, format and threshold are written into the model's config, where scoring reads them.

Not here: optimizers, schedules, checkpoints, DDP and FSDP, which are those of `transformers` and `accelerate`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from openr_data.errors import MissingDependency, OpenRError
from openr_data.prm_format import PrmEncoder

from .dev import Dev, DevMetrics
from .loss import class_logits, pair_logits, step_loss, verdict_loss
from .packing import IGNORED, Collator, EncodedExamples, Packs, plan_packs

BEST: Final = "eval_log_loss"
"""What decides which checkpoint is the best one."""

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train; `pack_tokens` is a row, `packs_per_step` rows make an update.

    `pack_tokens` below the longest solution leaves that in a row of its own. `patience` evaluations without a better
    dev loss end the training (0: never); `evaluations` are spread over it. `lora_rank` 0 trains all weights.
    """

    epochs: float = 3.0
    learning_rate: float = 1e-5
    warmup: float = 0.05
    weight_decay: float = 0.05
    clip: float = 1.0
    pack_tokens: int = 4_096
    packs_per_step: int = 4
    evaluations: int = 10
    patience: int = 0
    lora_rank: int = 0
    bf16: bool = False
    checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.learning_rate <= 0 or min(self.pack_tokens, self.packs_per_step) < 1:
            raise ValueError("epochs and learning_rate are above 0, pack_tokens and packs_per_step at least 1")
        if min(self.evaluations, self.patience, self.lora_rank, self.seed) < 0 or not 0 <= self.warmup < 1:
            raise ValueError("evaluations, patience, lora_rank and seed are at least 0, warmup lies in [0, 1)")


class StepLoss:
    """`compute_loss_func` of the trainer: the weighted sum over labelled prefixes, by their number in the update."""

    def __init__(self, encoder: PrmEncoder, *, generative: bool) -> None:
        self._encoder, self._generative = encoder, generative

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        judged = labels[0] != IGNORED
        target, weight = labels[0][judged].float(), labels[1][judged].float()
        logits = outputs.logits[0]
        encoder = self._encoder
        if encoder.form.head == "lm_pair":
            if self._generative:
                total = verdict_loss(logits, target, weight, encoder.good, encoder.bad)
            else:
                total = step_loss(pair_logits(logits, encoder.good, encoder.bad), target, weight)
        else:
            # A classifier has no `logits_to_keep`: its few classes are there for all tokens.
            total = step_loss(class_logits(logits[judged], encoder.form.good_class), target, weight)
        # The trainer counts both rows of the labels.
        return total / (len(target) if num_items_in_batch is None else num_items_in_batch / 2)


class PrmTrainer(Trainer):
    """`transformers.Trainer` whose evaluation is that of a reward model; `dev` None evaluates nothing."""

    def __init__(self, *, dev: Dev | None, **options: Any) -> None:
        super().__init__(**options)
        self._dev = dev
        self.metrics: DevMetrics | None = None

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the dev split; the figures are logged as `eval_…`, and early stopping sees them."""
        assert self._dev is not None
        self.metrics = self._dev.measure(self.model)
        found = {f"eval_{name}": value for name, value in self.metrics.figures().items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


class _Watch(TrainerCallback):
    """Tell what is logged, and stop where the loss is no number, or where somebody says so."""

    def __init__(self, report: Report | None, stop: Callable[[], bool]) -> None:
        self._report, self._stop = report, stop

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._stop():
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        found = dict(logs or {})
        loss = found.get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise OpenRError(
                f"The loss is no number at step {state.global_step}. Train with a lower -o learning_rate (it is "
                f"{args.learning_rate:g}), or without bf16; checkpoints until then are in {args.output_dir}."
            )
        if self._report is not None:
            self._report({"step": state.global_step, "steps": state.max_steps, "epoch": state.epoch or 0.0, **found})


def train(
    model: Any,
    encoder: PrmEncoder,
    data: EncodedExamples,
    dev: Dev | None,
    schedule: Schedule,
    folder: Path,
    *,
    branches: bool,
    generative: bool = False,
    resume: bool = False,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Any, PrmTrainer]:
    """Train a model in place; return it (LoRA merged, the best checkpoint where there is a dev split) and the trainer.

    `folder` takes the checkpoints; with `resume` training goes on from the newest one, as if it had never stopped. Once
    `stop` says so a checkpoint is written and training ends. Raises `MissingDependency` for LoRA without peft,
    `OpenRError` where the loss is no number.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if schedule.lora_rank:
        model = _with_lora(model, schedule.lora_rank)
    if schedule.checkpointing:
        model.gradient_checkpointing_enable()
    packs = plan_packs(data.lengths, schedule.pack_tokens, schedule.seed)
    updates = max(1, math.ceil(len(packs) / schedule.packs_per_step * schedule.epochs))
    every = max(1, updates // max(1, schedule.evaluations))
    measured = dev is not None and schedule.evaluations > 0
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=schedule.packs_per_step,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(schedule.warmup * updates),
        weight_decay=schedule.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=schedule.clip,
        bf16=schedule.bf16,
        eval_strategy="steps" if measured else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=measured,
        metric_for_best_model=BEST if measured else None,
        greater_is_better=False if measured else None,
        logging_steps=max(1, min(20, every)),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=schedule.seed,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    callbacks: list[TrainerCallback] = [_Watch(report, stop)]
    if measured and schedule.patience:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=schedule.patience))
    is_causal = encoder.form.head == "lm_pair"
    trainer = PrmTrainer(
        dev=dev,
        model=model,
        args=arguments,
        train_dataset=Packs(packs),
        eval_dataset=Packs([]) if measured else None,
        data_collator=Collator(data, keep=is_causal, branches=branches, weight=data.mean_weight()),
        compute_loss_func=StepLoss(encoder, generative=generative),
        callbacks=callbacks,
    )
    # What it prints is told by `report`.
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume or None)
    trained = trainer.model
    if schedule.lora_rank:
        trained = trained.merge_and_unload()  # type: ignore[union-attr, operator]
    return trained, trainer


def _with_lora(model: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "LoRA needs the package 'peft', which is not installed. Install it with: pip install 'openr-data[lora]'"
        ) from error
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
