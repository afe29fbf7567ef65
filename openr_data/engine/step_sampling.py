"""Sample one step from a prefix: what a guided search asks of a policy.

A step ends at the separator of the policy, which is sent as the only stop string, or where the solution ends. The
steps of a path, joined by the separator, are what the policy would have written in one piece: under greedy decoding
they are the beginning of its whole solution. Decisions:

1. Blank lines are not a step, as in `split_steps`. A sample that stops at the separator before it has written anything
   is continued after it, and the step begins with the blank lines. (`split_steps` of a whole text leaves them at the
   end of the step before; the text is the same.)
2. `max_tokens` bounds a step together with the blank lines before it.
3. The text of a policy that does not stop at the separator is cut there. Its tokens were paid for and count; their
   log-probability, which is that of more than the step, is left out.
4. The last token is assumed to end where the separator ends. What a token such as "\\n\\n\\n" holds after it is lost.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ..ids import derive_seed
from ..types import Completion, Prefix, SampledStep, Sampling
from .protocols import Policy


async def sample_step(policy: Policy, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[SampledStep]:
    """n independent samples of the next step: one request, and one more for each sample that begins with blank lines.

    An open prefix is continued to the end of its last step, which may have nothing left to write. Raises `ValueError`
    for a policy without a separator, and for a sampling that has stop strings, which would look the same as it.
    """
    if not policy.separator or sampling.stop:
        raise ValueError(
            f"A step ends at the separator: expected a policy that has one and a sampling without stop strings, not "
            f"the separator {policy.separator!r} and the stop strings {sampling.stop!r}."
        )
    asked = replace(sampling, stop=(policy.separator,))
    drawn = await policy.sample(prefix, n, asked)
    steps = [_step(item, policy.separator, prefix.open, (asked.seed, index)) for index, item in enumerate(drawn)]
    if prefix.open:
        return steps
    return await asyncio.gather(*(_begun(policy, prefix, asked, step, index) for index, step in enumerate(steps)))


def _step(item: Completion, separator: str, is_begun: bool, draw: tuple[int, int]) -> SampledStep:
    """A completion as a step: the text up to the first separator that is not one of blank lines before the step."""
    pieces = item.text.split(separator)
    count = 1
    while not is_begun and count < len(pieces) and not pieces[count - 1].strip():
        count += 1
    if count < len(pieces):
        return SampledStep(separator.join(pieces[:count]), "stop", item.n_tokens, None, item.draw or draw)
    return SampledStep(item.text, item.ended, item.n_tokens, item.logprob, item.draw or draw)


async def _begun(policy: Policy, prefix: Prefix, asked: Sampling, step: SampledStep, index: int) -> SampledStep:
    """Sample `index` of a request, continued for as long as it has stopped with nothing but blank lines."""
    while step.ended == "stop" and not step.text.strip():
        blank = step.text + policy.separator
        left = asked.max_tokens - step.n_tokens
        if left < 1:
            return replace(step, text=blank, ended="length")
        seed = derive_seed(asked.seed, "blank lines", index, step.calls)
        opened = Prefix(prefix.question, (*prefix.steps, blank), open=True)
        (item,) = await policy.sample(opened, 1, replace(asked, max_tokens=left, seed=seed))
        more = _step(item, policy.separator, False, (seed, 0))
        step = SampledStep(
            text=blank + more.text,
            ended=more.ended,
            n_tokens=step.n_tokens + more.n_tokens,
            logprob=None if step.logprob is None or more.logprob is None else step.logprob + more.logprob,
            draw=more.draw,
            calls=step.calls + 1,
        )
    return step
