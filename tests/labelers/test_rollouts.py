"""The memory of a labeler: seeds, grading, certificates."""

import asyncio
import dataclasses

from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.labelers.rollouts import Evidence
from openr_data.types import Sampling, Verdict
from tests.conftest import a_question, four_steps, the_papers_example


def evidence(policy: ScriptedPolicy, seed: int = 0) -> Evidence:
    return Evidence(a_question(), policy, MathGrader(), Sampling(seed=seed))


def test_every_prefix_of_a_correct_rollout_is_certified(papers_policy: ScriptedPolicy) -> None:
    known = evidence(papers_policy)
    drawn = asyncio.run(known.measure(known.state(()), 8))
    right = next(item for item in drawn if item.row.verdict is Verdict.CORRECT)
    for depth in range(len(right.solution) + 1):
        assert known.is_certified(known.state(right.solution[:depth]))
    wrong = next(item for item in drawn if item.row.verdict is Verdict.INCORRECT)
    assert not known.is_certified(known.state(wrong.solution))


def test_a_second_draw_from_a_state_is_new_and_counted_as_repeated() -> None:
    known = evidence(ScriptedPolicy(four_steps))

    async def twice() -> None:
        await known.measure(known.state(()), 16)
        await known.measure(known.state(()), 16)

    asyncio.run(twice())
    first, second = known.state(()).rollouts[:16], known.state(()).rollouts[16:]
    assert [item.solution for item in first] != [item.solution for item in second]
    assert len({item.row.rollout_id for item in first + second}) == 32
    assert known.repeated_probes == 1


def test_seeds_come_from_job_question_and_node_alone() -> None:
    def seeds(seed: int) -> list[int]:
        known = evidence(ScriptedPolicy(the_papers_example, exact=True), seed)
        asyncio.run(known.measure(known.state(("s1",)), 4))
        return [item.row.seed for item in known.state(("s1",)).rollouts]

    assert seeds(1) == seeds(1)
    assert seeds(1) != seeds(2)


def test_the_path_of_a_rollout_holds_the_ids_of_its_prefixes(papers_policy: ScriptedPolicy) -> None:
    known = evidence(papers_policy)
    drawn = asyncio.run(known.measure(known.state(("s1", "s2")), 4))
    for item in drawn:
        assert item.path == tuple(known.node_id(item.solution[: 3 + i]) for i in range(len(item.steps)))


def test_the_nodes_of_a_labeling_form_a_trie(random_policy: ScriptedPolicy) -> None:
    from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig

    labeler = OmegaPRM(OmegaPRMConfig(searches=6), Sampling())
    labeling = asyncio.run(labeler.label(a_question(), random_policy, MathGrader()))
    nodes = {node.node_id: node for node in labeling.nodes}
    assert len(nodes) == len(labeling.nodes)
    for node in labeling.nodes:
        if node.parent_id in nodes:
            assert nodes[node.parent_id].depth == node.depth - 1
        assert (node.parent_id is None) == (node.depth == 0)
        assert node.n_correct <= node.n_rollouts
    assert all(dataclasses.asdict(node)["question_id"] == labeling.question_id for node in labeling.nodes)
