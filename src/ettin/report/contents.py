"""Every figure and every table of a report, in the order of its page."""

from ettin.report import phases, tables, twins
from ettin.report.collect import Findings
from ettin.report.cost import cost_figure, cost_table
from ettin.report.curves import learning_figures
from ettin.report.figures import STYLES, Figure
from ettin.report.in_words import how_numbers_were_made
from ettin.report.paper_tables import paper_tables
from ettin.report.pronouns import pronoun_figures
from ettin.report.result_tables import result_table, score_table
from ettin.report.score_chart import score_figure
from ettin.report.scores import panels
from ettin.report.sizes import PUBLISHED, size_figures
from ettin.report.tables import Table
from ettin.report.tidy import finals, results_of
from ettin.report.trajectories import trajectory_figures

_MODELS_AT_MOST = 6
"""With more models there is no line for each of them below every task."""


def suite_figures(findings: Findings, *, published: bool = False) -> list[Figure]:
    """What the findings allow to be drawn.

    Args:
        findings: everything that was found.
        published: draw the paper's numbers beside ours.
    """
    results = results_of(findings.records)
    ended = finals(results)
    several = len({result.parameters for result in ended if result.role in STYLES}) > 1
    found: list[Figure | None] = [*learning_figures(findings.runs)]
    by_size = size_figures(results, with_published=published)
    # At one size the scores of every task, drawn below, say more than points above one another.
    found += [figure for figure in by_size if several or figure.name == PUBLISHED]
    if len({result.run for result in ended}) <= _MODELS_AT_MOST:
        shown = panels(tuple(result.record for result in ended))
        found.append(score_figure(shown) if shown else None)
    found += trajectory_figures(results, findings.runs)
    found += pronoun_figures(results, with_published=published)
    found.append(cost_figure(findings.runs))
    return [figure for figure in found if figure is not None]


def suite_tables(findings: Findings, *, published: bool = False) -> list[Table]:
    """Every table that has something to show.

    Args:
        findings: everything that was found.
        published: show the paper's numbers beside ours.
    """
    runs, results = findings.runs, results_of(findings.records)
    found = [
        score_table(results),
        *paper_tables(results, with_published=published),
        tables.losses(runs),
        phases.phase_table(runs),
        phases.source_table(runs),
        phases.start_table(runs),
        *twins.proofs(twins.pairs_of(runs)),
        tables.parity(findings.exports),
        tables.speed(runs),
        cost_table(runs),
        result_table(results),
        how_numbers_were_made(findings),
    ]
    return [table for table in found if table.rows]
