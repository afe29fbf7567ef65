"""What a process of the vLLM engine does for this project; vLLM adds it to its own worker (`worker_extension_cls`)."""

from typing import Any, Final

from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.platforms import current_platform

WORKER: Final = "openr_data.inference.serving.vllm_worker.WeightsWorker"


class WeightsWorker:
    """Replaces the weights of the worker's model."""

    def replace_weights(self, folder: str) -> None:
        """Read the safetensors files of a folder into the model at work."""
        # `self` is vLLM's worker, which has both methods.
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        if current_platform.is_cpu():
            # The output layer multiplies with a packed copy of its weights. vLLM packs a layer that a file names, and
            # a file names tied weights by the embeddings alone: the output would stay that of the old weights.
            for layer in worker.get_model().modules():
                if isinstance(layer, ParallelLMHead):
                    layer.quant_method.process_weights_after_loading(layer)
