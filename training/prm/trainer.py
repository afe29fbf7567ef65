"""Trains a process reward model from a pinned snapshot, on `transformers.Trainer` through its public hooks.

It differs from fine-tuning a language model as follows:

1. Rows are packed without padding, and solutions of a question share their common beginnings (`packing.py`).
2. The model returns logits only at the labelled positions (`logits_to_keep`), so no `[tokens, vocabulary]` tensor
   exists, except for the tokens of reasons.
3. One loss covers hard and soft labels (`loss.py`): the sum over all items of an update (labelled prefixes, and whole
   reasons) divided by their number, independent of the number of micro-batches or processes. Weights have a mean of 1
   over the training data.
4. The dev split is made by question. It decides early stopping, and the threshold is chosen on it.
5. Data, label rule, format and threshold are written into the model's config, where scoring reads them.

Optimizers, schedules, checkpoints, DDP and FSDP are those of `transformers` and `accelerate`.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, reduce
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging
from transformers.utils.import_utils import is_torch_bf16_gpu_available

from openr_data.errors import MissingDependency, OpenRError, UsageError
from openr_data.prm_format import PrmEncoder

from .dev import Dev, DevMetrics, NotFinite
from .loss import class_logits, pair_logits, step_loss, token_loss, verdict_loss
from .packing import IGNORED, WRITTEN, Collator, EncodedExamples, Packs, items, plan_packs

BEST: Final = "eval_log_loss"
"""The metric that decides which checkpoint is the best one."""

TrainingReport = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length and speed of the training. A row has `pack_tokens` tokens, an update `packs_per_step` rows.

    A solution longer than `pack_tokens` gets a row of its own. Several processes share the rows of an update, at least
    one each. `patience` evaluations without a better dev loss end the training (0: never); `evaluations` are spread
    over it. `lora_rank` 0 trains all weights. Few labels give few updates: `least_updates` adds epochs until that
    number is reached.
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
    least_updates: int = 0
    bf16: bool = False
    checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.learning_rate <= 0 or min(self.pack_tokens, self.packs_per_step) < 1:
            raise ValueError("epochs and learning_rate are above 0, pack_tokens and packs_per_step at least 1")
        counts = (self.evaluations, self.patience, self.lora_rank, self.least_updates, self.seed)
        if min(counts) < 0 or not 0 <= self.warmup < 1:
            raise ValueError(
                "evaluations, patience, lora_rank, least_updates and seed are at least 0, warmup lies in [0, 1)"
            )


class StepLoss:
    """The trainer's `compute_loss_func`: the weighted sum over all targets, divided by the items of the update."""

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
                written = target >= WRITTEN
                verdicts = ~written
                total = verdict_loss(logits[verdicts], target[verdicts], weight[verdicts], encoder.good, encoder.bad)
                total = total + token_loss(logits[written], target[written].long() - WRITTEN, weight[written])
            else:
                total = step_loss(pair_logits(logits, encoder.good, encoder.bad), target, weight)
        else:
            # A classifier has no `logits_to_keep`: it returns its few classes for all tokens.
            total = step_loss(class_logits(logits[judged], encoder.form.good_class), target, weight)
        return total / (items(target, encoder.end).sum() if num_items_in_batch is None else num_items_in_batch)


class PrmTrainer(Trainer):
    """A `transformers.Trainer` with the loss items and evaluation of a reward model; `dev` None disables evaluation.

    `end` is the last token of every reason. `metrics` are those of the last evaluation; after `train`, those of the
    returned model. `was_stopped` is true if training ended on request.
    """

    def __init__(self, *, dev: Dev | None, end: int | None, **options: Any) -> None:
        super().__init__(**options)
        self._dev, self._end = dev, end
        self.metrics: DevMetrics | None = None
        self.was_stopped = False

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """Return the micro-batches of an update and the number of items of all processes.

        `Trainer` itself would count the entries of `labels`.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.zeros((), device=device)
        for batch in batches:
            count += items(batch["labels"][0], self._end).sum().to(device)
        return batches, self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the dev split and log the figures as `eval_…`, which early stopping uses."""
        assert self._dev is not None
        try:
            self.metrics = self._dev.measure(self.model)
        except NotFinite as error:
            raise _not_finite(f"{error} at step {self.state.global_step}", self.args) from error
        figures = {f"eval_{name}": value for name, value in self.metrics.figures().items()}
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `Trainer` does, but create the folder in all processes first, even if shards are written later.

        The processes check for the folder to find the best checkpoint, and would wait for each other for ever if they
        disagreed.
        """
        if output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
        super().save_model(output_dir, _internal_call)


class _Watch(TrainerCallback):
    """Reports logged figures, and stops training if the loss is not finite or a stop is requested."""

    def __init__(self, report: TrainingReport | None, stop: Callable[[], bool]) -> None:
        self._report, self._stop = report, stop
        self.trainer: PrmTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # All processes must stop at the same step: otherwise the others wait for ever.
        requested = torch.tensor(float(self._stop()), device=args.device)
        if float(reduce(requested, "sum") if args.world_size > 1 else requested):
            assert self.trainer is not None
            self.trainer.was_stopped = control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        figures = dict(logs or {})
        loss = figures.get("loss", figures.get("train_loss"))
        if loss is not None and not math.isfinite(float(loss)):
            raise _not_finite(f"The loss is not a number at step {state.global_step}", args)
        if self._report is not None and state.is_world_process_zero:
            self._report({"step": state.global_step, "steps": state.max_steps, "epoch": state.epoch or 0.0, **figures})


def _not_finite(what: str, args: Any) -> OpenRError:
    return OpenRError(
        f"{what}. Train with a lower -o learning_rate (it is {args.learning_rate:g}), or without bf16; checkpoints "
        f"until then are in {args.output_dir}."
    )


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
    report: TrainingReport | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Any, PrmTrainer]:
    """Train a model in place; return it (LoRA merged; the best checkpoint if there is a dev split) and the trainer.

    `folder` receives the checkpoints; with `resume`, training continues from the newest complete one as if it had never
    stopped. When `stop` returns true, a checkpoint is written and training ends. Raises `MissingDependency` for LoRA
    without peft, `UsageError` for tries that exceed a sliding window and for bf16 on a GPU without it, `OpenRError` if
    the loss is not finite.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    _check_window(model, data, branches)
    kind = type(model)
    if schedule.lora_rank:
        model = _with_lora(model, schedule.lora_rank)
    if schedule.checkpointing:
        # Later versions of transformers use this name and warn of the old one.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    packs = plan_packs(data.lengths, schedule.pack_tokens, schedule.seed)
    on_cpu, count = processes().device.type == "cpu", processes().num_processes
    if schedule.bf16 and not on_cpu and not is_torch_bf16_gpu_available():
        raise UsageError("This GPU does not compute in bf16. Leave out -o bf16=true.")
    accumulated = math.ceil(schedule.packs_per_step / count)
    an_epoch = max(1, math.ceil(math.ceil(len(packs) / count) / accumulated))
    epochs = max(schedule.epochs, schedule.least_updates / an_epoch)
    updates = max(1, math.ceil(an_epoch * epochs))
    every = max(1, updates // max(1, schedule.evaluations))
    measured = dev is not None and schedule.evaluations > 0
    arguments = TrainingArguments(
        # The newest checkpoint stores the path of the best one, so the path must be absolute.
        output_dir=str(folder.resolve()),
        num_train_epochs=epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulated,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(schedule.warmup * updates),
        weight_decay=schedule.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=schedule.clip,
        bf16=schedule.bf16,
        use_cpu=on_cpu,
        eval_strategy="steps" if measured else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        # Without this, a resumed run would count patience from zero.
        restore_callback_states_from_checkpoint=True,
        ddp_find_unused_parameters=False,
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
    if arguments.n_gpu > 1:
        # One process uses one GPU, because a row cannot be split; `accelerate launch` uses all GPUs.
        arguments._n_gpu = 1
    watch = _Watch(report, stop)
    callbacks: list[TrainerCallback] = [watch]
    if measured and schedule.patience:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=schedule.patience))
    is_causal = encoder.form.head == "lm_pair"
    trainer = PrmTrainer(
        dev=dev,
        end=encoder.end,
        model=model,
        args=arguments,
        train_dataset=Packs(packs),
        eval_dataset=Packs([]) if measured else None,
        data_collator=Collator(data, keep=is_causal, branches=branches, weight=data.mean_weight(encoder.end)),
        compute_loss_func=StepLoss(encoder, generative=generative),
        callbacks=callbacks,
    )
    watch.trainer = trainer
    # `report` replaces what this callback prints.
    trainer.remove_callback(PrinterCallback)
    newest = _newest(folder) if resume else None
    trainer.train(resume_from_checkpoint=str(newest) if newest is not None else None)
    if dev is not None and not trainer.was_stopped:
        # Measured on the best checkpoint, and while all processes hold it, because they read the shards together.
        trainer.metrics = dev.measure(trainer.model)
    trained = _gathered(trainer, kind, schedule.lora_rank) if trainer.is_fsdp_enabled else trainer.model
    if schedule.lora_rank and processes().is_main_process:
        trained = trained.merge_and_unload()  # type: ignore[union-attr, operator]
    return trained, trainer


def _gathered(trainer: PrmTrainer, kind: type[Any], lora_rank: int) -> Any:
    """Return, in the main process, a model with all weights that FSDP sharded; other processes keep their shards."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not processes().is_main_process:
        return trainer.model
    # A new model is needed because FSDP has changed the class of the trained one.
    whole = kind(trainer.model.config)  # type: ignore[union-attr]
    if lora_rank:
        whole = _with_lora(whole, lora_rank)
    whole.load_state_dict(state)
    return whole.to(next(iter(state.values())).dtype)


def processes() -> PartialState:
    """Return the processes that train together; they use CPUs if the launcher says so (`accelerate launch --cpu`)."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def _newest(folder: Path) -> Path | None:
    """Return the newest complete checkpoint; its state file is written last."""
    checkpoints: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*/trainer_state.json"):
        try:
            checkpoints.append((int(json.loads(path.read_text(encoding="utf-8"))["global_step"]), path.parent))
        except (OSError, ValueError, KeyError):
            continue
    return max(checkpoints)[1].resolve() if checkpoints else None


def _check_window(model: Any, data: EncodedExamples, branches: bool) -> None:
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if branches and window and data.longest > window:
        raise UsageError(
            f"Some layers of this model attend to {window:,} tokens only, and the longest solution has "
            f"{data.longest:,}: solutions cannot be read as a tree. Train with: -o share=false"
        )


def _with_lora(model: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "LoRA needs the package 'peft', which is not installed. Install it with: pip install 'openr-data[lora]'"
        ) from error
    with warnings.catch_warnings():
        # peft 0.21 uses an attribute name that transformers 5.24 has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
