"""A label source of your own: questions and answers about objects become expressions.

"What is the dog doing?" – "sleeping" is "dog sleeping", "What colour is the cup?" – "red" is "red
cup". The questions travel as a further key of the observations, one image a line:

    {"image": "a.jpg", "questions": [{"question": "What colour is the cup?", "answer": "red",
                                      "box": [10, 20, 60, 90]}]}

As a package of yours names this module in its entry points, it is a source by that name:

    [project.entry-points."clipvg.sources"]
    vqa = "vqa_source"

    clipvg generate --observations questions.jsonl --images images/ --sources vqa --out vqa.parquet
"""

import re
from collections import Counter

from clipvg.pseudo import Candidate, Observation, Options

# A question's pattern, the expression that it becomes with its answer, and the rule's name.
RULES = [
    (r"what colou?r (?:is|are) the (?P<thing>.+)", "{answer} {thing}", "colour"),
    (r"what (?:is|are) the (?P<thing>.+?) doing", "{thing} {answer}", "activity"),
    (r"where (?:is|are) the (?P<thing>.+)", "{thing} {answer}", "place"),
    (r"(?:is|are) the (?P<thing>\S+) (?P<rest>\S+ing .+|on .+|in .+)", "{thing} {rest}", "yes"),
]
UNSAID = {"no", "nothing", "unknown", "none"}


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return an expression of each question that a rule reads; the same words twice fit no box."""
    found = [
        candidate
        for pair in observation.extra.get("questions", ())
        if (candidate := read_pair(pair["question"], pair["answer"], tuple(pair["box"])))
    ]
    times = Counter(each.expression for each in found)
    keep_all = options.ambiguous == "keep"
    return [each for each in found if keep_all or times[each.expression] == 1]


def read_pair(question: str, answer: str, box: tuple) -> Candidate | None:
    """Return what a question and its answer say of the box, None where that is nothing."""
    question, answer = question.lower().strip(" ?"), answer.lower().strip(" .")
    if answer in UNSAID:
        return None
    for pattern, words, rule in RULES:
        match = re.fullmatch(pattern, question)
        if match and (rule != "yes" or answer == "yes"):
            return Candidate(words.format(answer=answer, **match.groupdict()), box, rule)
    return None
