"""What the page says before its figures: what was trained, on what, and how it ended."""

from pathlib import Path

from ettin.console import human
from ettin.report import phases, tables, twins
from ettin.report.collect import Findings, Run, number
from ettin.report.in_words import is_suite, suite_sentences, suite_title
from ettin.report.labels import labels_of


def title_of(findings: Findings) -> str:
    """What the findings are about, in a few words."""
    runs = findings.runs
    native = [run for run in runs if run.variant != "cross"]
    cross = _counted(len(runs) - len(native), "cross-objective run")
    sizes = ", ".join(dict.fromkeys(str(run.facts.get("size", "?")) for run in runs))
    if is_suite(runs):
        return suite_title(runs)
    if _is_one_pair(runs):
        turned = f", and {cross}" if cross else ""
        return f"An encoder and its twin, a decoder, of size {sizes}{turned}"
    if native:
        turned = f", and {cross}" if cross else ""
        return f"{_counted(len(native), 'run')} of size {sizes}{turned}"
    return f"{cross} of size {sizes}" if cross else "Exports and results"


def sentences_of(findings: Findings) -> list[str]:
    """The first lines of the page: what was trained, on what, how it ended, and who is ahead."""
    runs = findings.runs
    if is_suite(runs):
        return suite_sentences(findings)
    names = labels_of(runs)
    native = [run for run in runs if run.variant != "cross"]
    sentences = list(dict.fromkeys(_trained(run, findings, names[run.path]) for run in native))
    merged = {_trained(run, findings, "encoder and the decoder") for run in native}
    if _is_one_pair(runs) and len(merged) == 1:
        sentences = list(merged)
    for run in native:
        words = tables.verdict(run.validation_loss, run.baselines)
        if words:
            sentences.append(
                f"On held-out text the {names[run.path]} ends at {run.validation_loss:.2f} nats "
                f"per label: {words}."
            )
    sentences += [_cross_trained(run, findings, names) for run in runs if run not in native]
    return sentences + suite_sentences(findings)


def _cross_trained(run: Run, findings: Findings, names: dict[Path, str]) -> str:
    """One sentence for a cross run; tables say the rest."""
    began = phases.described_start(run, findings.runs, names)
    sentence = f"The {names[run.path]} went on from trained weights ({began})"
    if isinstance(run.facts.get("tokens"), int):
        sentence += f" for {human(run.facts['tokens'])} tokens"
    before = number(run.facts.get("initial_validation_loss"))
    if before is not None and run.validation_loss is not None:
        sentence += f"; held-out loss {before:.2f} before the first step"
        sentence += f", {run.validation_loss:.2f} after the last"
    return f"{sentence}."


def _trained(run: Run, findings: Findings, name: str) -> str:
    facts = run.facts
    parts = [f"The {name}"]
    each = " each" if name.endswith("and the decoder") else ""
    if isinstance(facts.get("parameters"), int):
        parts.append(f"({human(facts['parameters'])} parameters{each})")
    parts.append("consumed" if not each else "each consumed")
    tokens = facts.get("tokens")
    parts.append(f"{human(tokens)} tokens of text" if isinstance(tokens, int) else "text")
    corpus = facts.get("corpus")
    if isinstance(corpus, dict) and corpus.get("path"):
        parts.append(f"from the corpus {corpus['path']}")
        sources = findings.corpora.get(str(corpus["path"]), {}).get("sources", {})
        documents = sum(source.get("documents", 0) for source in sources.values())
        if documents:
            parts.append(f"({documents:,} documents)")
    sentence = " ".join(parts)
    went_through = phases.names_of(run)
    if len(went_through) > 1:
        sentence += f", in {len(went_through)} phases: {', '.join(went_through)}"
    if run.start is not None:
        began = phases.described_start(run, findings.runs, labels_of(findings.runs))
        sentence += f"; it began with trained weights ({began})"
    return f"{sentence}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}" if count else ""


def _is_one_pair(runs: tuple[Run, ...]) -> bool:
    """Whether the native runs are an encoder and its twin, and no others."""
    pairs = [pair for pair in twins.pairs_of(runs) if pair.variant != "cross"]
    return len(pairs) == 1 and sum(run.variant != "cross" for run in runs) == 2
