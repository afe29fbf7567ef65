"""The program of each of two processes under torch's launcher:

    python -m tests.training.prm.two_processes FOLDER [LORA_RANK]

They train twice: to the end, and until only the second process receives a stop. The first process writes the results.
With FSDP in the environment the model is sharded, also on CPUs, for which accelerate would not do it by default.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from openr_data.training.prm.dev import Dev
from openr_data.training.prm.packing import EncodedExamples
from openr_data.training.prm.trainer import Schedule, processes, train
from tests.training.prm.toys import encoder, parity, tiny

SCHEDULE = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=96, packs_per_step=4, evaluations=2, warmup=0.3)
STOP_AT = 3


def shard_on_cpus() -> None:
    """Make accelerate treat the CPUs as GPUs when it decides about FSDP; everything after that runs as on GPUs."""
    begin = PartialState.__init__

    def as_gpus(self: PartialState, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = as_gpus  # type: ignore[method-assign]


def main(folder: Path, lora_rank: int = 0) -> None:
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        shard_on_cpus()
    schedule = replace(SCHEDULE, lora_rank=lora_rank)
    state = processes()
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return state.process_index == 1 and steps == STOP_AT

    data, found = EncodedExamples(folder / "data.arrow"), []
    for name, asked in (("whole", lambda: False), ("stopped", stop)):
        dev = Dev(parity(8, 1), encoder(), 256)
        model, trainer = train(
            tiny("llama"), encoder(), data, dev, schedule, folder / name, branches=True, stop=asked
        )  # fmt: skip
        found.append((state.num_processes, trainer.state.global_step, trainer.was_stopped))
        if state.is_main_process:
            torch.save(model.state_dict(), folder / f"{name}.pt")
    if state.is_main_process:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
