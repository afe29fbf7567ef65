"""What each of two processes runs: `python -m tests.training.two_processes FOLDER`, under a launcher of torch.

They train twice: to the end, and until the second process alone is asked to stop. The first one writes what came of it.
"""

import json
import sys
from pathlib import Path

import torch

from openr_data.training.dev import Dev
from openr_data.training.packing import EncodedExamples
from openr_data.training.prm import Schedule, processes, train
from tests.training.toys import encoder, parity, tiny

SCHEDULE = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=96, packs_per_step=4, evaluations=2, warmup=0.3)
STOP_AT = 3


def main(folder: Path) -> None:
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
            tiny("llama"), encoder(), data, dev, SCHEDULE, folder / name, branches=True, stop=asked
        )  # fmt: skip
        found.append((state.num_processes, trainer.state.global_step, trainer.was_stopped))
        if state.is_main_process:
            torch.save(model.state_dict(), folder / f"{name}.pt")
    if state.is_main_process:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
