"""Draw tokens so that a sample depends on its seed alone, not on its neighbours in the batch.

The uniform number behind token t of a sample is a hash of (seed, t) (splitmix64), and the token is the
inverse of the cumulative distribution at that number. Two batches that hold the same sample differ only in
the order of floating-point sums: in float64 that never moves a token in practice, in float32 about one in
ten million, in bfloat16 it does.
"""

import numpy as np
import numpy.typing as npt
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _splitmix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
        return state ^ (state >> np.uint64(31))


def sample_seeds(seed: int, n: int) -> npt.NDArray[np.uint64]:
    """The seeds of the n samples of one request, `[n]`."""
    with np.errstate(over="ignore"):
        counter = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
        return _splitmix(np.uint64(seed) + counter)


def uniforms(seeds: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each (seed, token position), `[rows]`."""
    with np.errstate(over="ignore"):
        bits = _splitmix(seeds + (positions + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, chance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their log-probabilities under the distribution sampled from, each `[rows]`.

    `logits` `[rows, vocabulary]`; `temperature`, `top_p`, `chance` `[rows]`. Temperature 0 is the argmax,
    with the log-probability at temperature 1.
    """
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, 1.0, temperature).to(logits.dtype)[:, None]
    log_probabilities = torch.log_softmax(scaled, dim=-1)
    if bool((top_p < 1).any()):
        log_probabilities = _nucleus(log_probabilities, top_p)
    cumulative = log_probabilities.exp().cumsum(-1)
    # The last sum is 1 up to rounding: scale the number, so that it never falls behind the end.
    target = chance.to(cumulative.dtype) * cumulative[:, -1]
    tokens = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    tokens = torch.where(greedy, logits.argmax(-1), tokens.clamp(max=logits.shape[-1] - 1))
    return tokens, log_probabilities.gather(1, tokens[:, None])[:, 0]


def _nucleus(log_probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Keep the smallest set of tokens whose probability reaches `top_p`, renormalised."""
    ordered, order = torch.sort(log_probabilities, dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    beyond = before >= top_p.to(before.dtype)[:, None]
    dropped = torch.zeros_like(beyond).scatter(1, order, beyond)
    return torch.log_softmax(log_probabilities.masked_fill(dropped, -torch.inf), dim=-1)
