"""Which checkpoints of a run are measured: all, each k-th, or some at even distances of log tokens.

chosen_tags(run, "all")             every checkpoint, the untrained model included
chosen_tags(run, {"every": 5})      the first, then each fifth, and the last
chosen_tags(run, {"log": 10})       about ten, and the first; all if there are no more than that
"""

from typing import Literal

from ettin.suite.runs import SuiteRun

Rule = Literal["all"] | dict[Literal["every", "log"], int]


def chosen_tags(run: SuiteRun, rule: Rule) -> list[str]:
    """Tags in order; the first and the last of the run are always among them."""
    tags = run.tags
    if rule == "all":
        return tags
    last = len(tags) - 1
    places = {0, last}
    if "every" in rule:
        places |= set(range(0, last + 1, rule["every"]))
    else:
        places |= _log_spaced(run.clocks, rule["log"])
    return [tags[place] for place in sorted(places)]


def _log_spaced(clocks: list[int], count: int) -> set[int]:
    """Places of the checkpoints nearest to `count` clock readings of equal ratio, last included."""
    trained = clocks[1:]
    first, last = trained[0], trained[-1]
    if count == 1:
        return {len(trained)}
    if count >= len(trained):
        return set(range(1, len(clocks)))
    due = [first * (last / first) ** (step / (count - 1)) for step in range(count)]
    return {1 + min(range(len(trained)), key=lambda i: abs(trained[i] - each)) for each in due}
