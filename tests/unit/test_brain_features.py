"""What a context is found to be: structures, patterns, shapes, and how alike two are. Expected values worked out by hand."""

import pytest

from orka.brain.features import PATTERNS, STRUCTURES, Features, analyse, decode_features, similarity

SAYING = {
    "decomposition": "Break the contract down into clauses",
    "sequential": "Handle it step by step",
    "parallel": "Ask both at the same time",
    "aggregation": "Merge the answers",
    "comparison": "What is the difference between the two offers?",
    "transformation": "Translate it to French",
    "filtering": "Exclude what is older than a year",
    "routing": "Escalate depending on the tone",
    "iteration": "Refine until nothing is left to say",
    "validation": "Verify every number",
    "analysis": "Analyse the log",
    "synthesis": "Integrate both views",
    "evaluation": "Assess the risk",
    "generation": "Draft a letter",
    "classification": "Categorise the ticket",
    "extraction": "Retrieve the address",
    "reasoning": "Infer the cause",
    "planning": "Schedule the release",
    "optimization": "Speed the query up, minimise its memory",
    "abstraction": "Generalise from the examples",
}


@pytest.mark.parametrize("name", SAYING)
def test_each_structure_and_pattern_is_known_by_its_words(name: str) -> None:
    found = analyse({"task": SAYING[name]})
    assert name in (*found.task_structures, *found.cognitive_patterns)


def test_there_are_ten_of_each() -> None:
    assert (len(STRUCTURES), len(PATTERNS)) == (10, 10)
    assert {*STRUCTURES, *PATTERNS} == {*SAYING}


def test_words_inside_of_words_do_not_count() -> None:
    found = analyse({"task": "Authenticate the aftermath of unsorted parchments"})
    assert (found.task_structures, found.cognitive_patterns) == ((), ())


def test_a_strategy_is_a_structure() -> None:
    assert analyse({"strategy": "parallel"}).task_structures == ("parallel",)
    assert analyse({"strategy": "simple"}).task_structures == ()


@pytest.mark.parametrize(
    ("context", "shape"),
    [
        ({}, "unknown"),
        ({"input": ["a", "b"]}, "list"),
        ({"input": {"a": 1}}, "structured"),
        ({"input": "x" * 1001}, "long_text"),
        ({"input": "x" * 1000}, "single_text"),
        ({"input": " "}, "unknown"),
        ({"input": 3}, "unknown"),
        ({"input_description": "a list of invoices"}, "list"),
        ({"input_description": "one JSON object"}, "structured"),
        ({"input_description": "a transcript"}, "long_text"),
        ({"input_description": "the customer's message"}, "single_text"),
    ],
)
def test_shape_of_the_input(context: dict[str, object], shape: str) -> None:
    assert analyse(context).input_shape == shape  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hint", "shape"),
    [
        ("", "text"),
        ("a JSON object", "structured"),
        ("bullet list", "list"),
        ("yes/no", "boolean"),
        ("a score", "numeric"),
        ("prose", "text"),
    ],
)
def test_shape_of_the_output(hint: str, shape: str) -> None:
    assert analyse({"output_format": hint}).output_shape == shape


def test_complexity_is_one_to_ten() -> None:
    assert analyse({}).complexity == 1
    everything = " ".join(SAYING.values())
    assert analyse({"task": everything, "agents": list("abcdefghi"), "input": {"a": 1}}).complexity == 10
    assert analyse({"task": "Draft a letter"}).complexity == 2


def test_similarity_is_worked_out_by_hand() -> None:
    one = Features(task_structures=("sequential", "validation"), cognitive_patterns=("analysis",), input_shape="list")
    other = Features(
        task_structures=("validation", "filtering", "sequential"),
        cognitive_patterns=("analysis", "reasoning"),
        input_shape="list",
        output_shape="boolean",
    )
    # .35 * 2/3 + .35 * 1/2 + .15 + 0
    assert similarity(one, other) == pytest.approx(0.5583333)
    assert similarity(other, one) == similarity(one, other)
    assert similarity(one, one) == pytest.approx(1.0)


def test_contexts_without_any_feature_are_alike_in_their_shapes_alone() -> None:
    assert similarity(Features(), Features()) == pytest.approx(0.3)
    assert Features().fingerprint == ""


def test_a_fingerprint_does_not_depend_on_order_or_domain() -> None:
    one = Features(task_structures=("sequential", "parallel"), domain_hints=("law",))
    assert one.fingerprint == Features(task_structures=("parallel", "sequential")).fingerprint != ""
    assert one.fingerprint != Features(task_structures=("parallel",)).fingerprint


def test_what_orka_09_stored_is_read() -> None:
    found = decode_features(
        {
            "task_structures": ["sequential"],
            "cognitive_patterns": ["analysis"],
            "input_shape": "list",
            "output_shape": "boolean",
            "complexity": 7,
            "domain_hints": ["law", "contracts"],
            "abstract_goal": "a goal",
            "metadata": {"domain": "law"},
        }
    )
    assert found == Features(
        task_structures=("sequential",),
        cognitive_patterns=("analysis",),
        input_shape="list",
        output_shape="boolean",
        complexity=7,
        domain_hints=("law", "contracts"),
        abstract_goal="a goal",
        metadata={"domain": "law"},
    )
    assert decode_features({"task_structures": 3, "complexity": "many"}) == Features()
