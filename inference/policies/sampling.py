"""Draw tokens so that a sample depends on its seed alone, not on its neighbours in the batch.

The uniform number of token t of a sample is a hash of (seed, t) (splitmix64), and the token is the
inverse of the cumulative distribution at that number. Two batches that hold the same sample still differ in
the order of floating-point sums; `draw` therefore returns how far each number lies from the border to another
token, so that a caller can settle the close calls in a way that does not depend on the batch.
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


def log_distribution(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Log-probabilities `[rows, vocabulary]` of what is sampled from; temperature 0 counts as 1."""
    scaled = logits / torch.where(temperature == 0, 1.0, temperature).to(logits.dtype)[:, None]
    log_probabilities = torch.log_softmax(scaled, dim=-1)
    return _nucleus(log_probabilities, top_p)[0] if bool((top_p < 1).any()) else log_probabilities


def draw(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, chance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, their log-probabilities under the distribution sampled from, and margins, each `[rows]`.

    `logits` `[rows, vocabulary]`; `temperature`, `top_p`, `chance` `[rows]`. Temperature 0 is the argmax. The
    margin is the distance of the number to the nearest end of its token's interval (and of `top_p` to the nearest
    sum that decides which tokens stay), or for the argmax the difference of the two highest logits.
    """
    greedy = temperature == 0
    log_probabilities = log_distribution(logits, temperature, torch.ones_like(top_p))
    edges: torch.Tensor | float = 1.0
    if bool((top_p < 1).any()):
        log_probabilities, edges = _nucleus(log_probabilities, top_p)
    cumulative = log_probabilities.exp().double().cumsum(-1)
    # The last sum is 1 up to rounding: scale the number, so that it never falls after the end.
    target = (chance * cumulative[:, -1])[:, None]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    below = torch.where(tokens > 0, cumulative.gather(1, (tokens - 1).clamp(min=0)), -1.0)
    # Nothing lies beyond the last token that can be drawn.
    above = cumulative.gather(1, tokens)
    above = torch.where(above >= cumulative[:, -1:], 2.0, above)
    margins = torch.minimum(target - below, above - target)[:, 0].clamp(max=edges)
    if bool(greedy.any()):
        highest = logits.topk(2, dim=-1)
        tokens = torch.where(greedy[:, None], highest.indices[:, :1], tokens)
        margins = torch.where(greedy, (highest.values[:, 0] - highest.values[:, 1]).double(), margins)
    return tokens[:, 0], log_probabilities.gather(1, tokens)[:, 0], margins


def _nucleus(log_probabilities: torch.Tensor, top_p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the smallest set of tokens whose probability reaches `top_p`, renormalised; and how clear that set is."""
    ordered, order = torch.sort(log_probabilities, dim=-1, descending=True, stable=True)
    before = ordered.exp().double().cumsum(-1) - ordered.exp()
    distance = before - top_p.double()[:, None]
    beyond = distance >= 0
    dropped = torch.zeros_like(beyond).scatter(1, order, beyond)
    # A row without a nucleus (top_p 1) keeps everything, whatever the rounding of its last sums.
    whole = (top_p >= 1)[:, None]
    remaining = log_probabilities.masked_fill(dropped & ~whole, -torch.inf)
    edges = torch.where(whole[:, 0], 1.0, distance.abs().min(-1).values)
    return torch.log_softmax(remaining, dim=-1), edges
