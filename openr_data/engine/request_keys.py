"""The content of a request as a short key, by which the journal finds the reply."""

from collections.abc import Sequence
from hashlib import blake2b

from ..types import Prefix, Sampling


def stem_key(policy: str, prefix: Prefix, sampling: Sampling) -> bytes:
    """What a sample is drawn from, 16 bytes: model and template (the policy's name), prefix, and all but the seed."""
    # The number of steps is in it: an empty stop string must not look like the end of the steps.
    shape = f"{sampling.temperature!r} {sampling.top_p!r} {sampling.max_tokens} {len(prefix.steps)}"
    if prefix.open:
        # Open prefixes came later: the keys of closed ones must stay as they were.
        shape += " open"
    parts = (policy, shape, prefix.question, *prefix.steps, "", *sampling.stop)
    data = [part.encode("utf-8", "surrogatepass") for part in parts]
    # Length-prefixed: no two lists of parts collide by concatenation.
    return blake2b(b"".join([b"%d:%b" % (len(item), item) for item in data]), digest_size=16).digest()


def request_key(stem: bytes, n: int, seed: int) -> bytes:
    """The content of a request as one id, 16 bytes."""
    return blake2b(b"%b %d %d" % (stem, n, seed), digest_size=16).digest()


def question_key(question: str) -> bytes:
    """A question in the journal, 8 bytes."""
    return blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def score_keys(reward: str, question: str, steps: Sequence[str]) -> tuple[bytes, ...]:
    """The requests for the scores of no step, of the first one, … of all steps, 16 bytes each.

    `reward` is the name of the reward model: model, revision and format.
    """
    keys: list[bytes] = []
    digest = blake2b(b"scores", digest_size=16)
    for part in (reward, question, *steps):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
        keys.append(digest.digest())
    return tuple(keys[1:])
