"""A label source of your own: questions and answers about objects become expressions.

"What is the dog doing?" – "sleeping" is "dog sleeping", "What colour is the cup?" – "red" is "red
cup". The questions are an extra key of the observations, one image per line:

    {"image": "a.jpg", "questions": [{"question": "What colour is the cup?", "answer": "red",
                                      "box": [10, 20, 60, 90]}]}

Once a package of yours lists this module in its entry points, it is a source of that name:

    [project.entry-points."clipvg.sources"]
    vqa = "vqa_source"

    clipvg generate --observations questions.jsonl --images images/ --sources vqa --out vqa.parquet
"""

import re
from collections import Counter

from clipvg.pseudo import Candidate, Observation, Options

# Pattern of a question, template of the expression, and name of the rule.
RULES = [
    (r"what colou?r (?:is|are) the (?P<thing>.+)", "{answer} {thing}", "colour"),
    (r"what (?:is|are) the (?P<thing>.+?) doing", "{thing} {answer}", "activity"),
    (r"where (?:is|are) the (?P<thing>.+)", "{thing} {answer}", "place"),
    (r"(?:is|are) the (?P<thing>\S+) (?P<rest>\S+ing .+|on .+|in .+)", "{thing} {rest}", "yes"),
]
UNSAID = {"no", "nothing", "unknown", "none"}


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return a candidate for each question that a rule matches.

    An expression that occurs twice is ambiguous and dropped, unless `options.ambiguous` is "keep".
    """
    found = [
        candidate
        for pair in observation.extra.get("questions", ())
        if (candidate := read_pair(pair["question"], pair["answer"], tuple(pair["box"])))
    ]
    times = Counter(each.expression for each in found)
    keep_all = options.ambiguous == "keep"
    return [each for each in found if keep_all or times[each.expression] == 1]


def read_pair(question: str, answer: str, box: tuple) -> Candidate | None:
    """Return the candidate that a question and its answer make, or None if no rule applies."""
    question, answer = question.lower().strip(" ?"), answer.lower().strip(" .")
    if answer in UNSAID:
        return None
    for pattern, words, rule in RULES:
        match = re.fullmatch(pattern, question)
        if match and (rule != "yes" or answer == "yes"):
            return Candidate(words.format(answer=answer, **match.groupdict()), box, rule)
    return None
