"""Tokens drawn by seed: right distribution, no dependence on neighbours."""

import numpy as np
import pytest
import torch

from openr_data.inference.policies.sampling import draw, sample_seeds, uniforms


def drawn(logits: torch.Tensor, chance: list[float], temperature: float = 1.0, top_p: float = 1.0) -> list[int]:
    rows = len(chance)
    tokens, _, _ = draw(
        logits.expand(rows, -1),
        torch.full((rows,), temperature),
        torch.full((rows,), top_p),
        torch.tensor(chance, dtype=torch.float64),
    )
    return tokens.tolist()


LOGITS = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()


def test_the_token_is_the_inverse_of_the_distribution() -> None:
    assert drawn(LOGITS, [0.0, 0.49, 0.51, 0.79, 0.81, 0.999999]) == [0, 0, 1, 1, 2, 2]


def test_temperature_zero_is_the_argmax_and_low_temperature_sharpens() -> None:
    assert drawn(LOGITS, [0.99, 0.1], temperature=0.0) == [0, 0]
    # At temperature 1/2 the probabilities are .25, .09, .04 over .38.
    assert drawn(LOGITS, [0.65, 0.66, 0.89, 0.9], temperature=0.5) == [0, 1, 1, 2]


def test_top_p_keeps_the_smallest_sufficient_set_and_renormalises() -> None:
    assert drawn(LOGITS, [0.62, 0.63, 0.9999], top_p=0.7) == [0, 1, 1]
    assert drawn(LOGITS, [0.9999], top_p=0.5) == [0]
    assert drawn(LOGITS, [0.0, 0.9999], top_p=0.01) == [0, 0]


def test_the_log_probability_is_that_of_the_distribution_sampled_from() -> None:
    for temperature, top_p, expected in [(1.0, 1.0, 0.3), (0.5, 1.0, 0.09 / 0.38), (1.0, 0.7, 0.3 / 0.8)]:
        tokens, logprob, _ = draw(
            LOGITS, torch.tensor([temperature]), torch.tensor([top_p]), torch.tensor([0.75], dtype=torch.float64)
        )
        assert tokens.tolist() == [1]
        assert logprob.exp().item() == pytest.approx(expected)


def test_the_margin_is_the_distance_to_another_token() -> None:
    chance = [0.0, 0.49, 0.51, 0.75, 0.9]
    rows = len(chance)
    ones = torch.ones(rows)
    _, _, margins = draw(LOGITS.expand(rows, -1), ones, ones, torch.tensor(chance, dtype=torch.float64))
    assert margins.tolist() == pytest.approx([0.5, 0.01, 0.01, 0.05, 0.1])
    _, _, greedy = draw(LOGITS, torch.zeros(1), ones[:1], torch.zeros(1, dtype=torch.float64))
    assert greedy.tolist() == pytest.approx([float(LOGITS[0, 0] - LOGITS[0, 1])])


def test_the_margin_knows_the_edge_of_the_nucleus() -> None:
    logits = torch.tensor([[0.5, 0.3 - 1e-6, 0.2 + 1e-6]], dtype=torch.float64).log()
    _, _, margins = draw(logits, torch.ones(1), torch.tensor([0.8]), torch.tensor([0.55], dtype=torch.float64))
    assert margins.item() < 2e-6


def test_rows_with_and_without_a_nucleus_share_a_batch() -> None:
    two = torch.tensor([1.0, 0.5])
    tokens, _, _ = draw(LOGITS.expand(2, -1), torch.ones(2), two, torch.tensor([0.99, 0.99], dtype=torch.float64))
    assert tokens.tolist() == [2, 0]


def test_uniform_numbers_are_uniform_and_reproducible() -> None:
    seeds = sample_seeds(7, 20_000)
    assert len(set(seeds.tolist())) == 20_000
    numbers = uniforms(seeds, np.zeros(20_000, dtype=np.uint64))
    assert (numbers == uniforms(seeds, np.zeros(20_000, dtype=np.uint64))).all()
    assert 0 <= numbers.min() < numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8, "chi-square over 19 degrees of freedom, p = 0.001"
    after = uniforms(seeds, np.ones(20_000, dtype=np.uint64))
    assert abs(np.corrcoef(numbers, after)[0, 1]) < 0.03


def test_the_seeds_of_a_shorter_request_are_the_first_of_a_longer_one() -> None:
    assert sample_seeds(5, 3).tolist() == sample_seeds(5, 8)[:3].tolist()
    assert sample_seeds(5, 8).tolist() != sample_seeds(6, 8).tolist()
