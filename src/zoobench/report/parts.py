"""What a report shows beyond its ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoobench.compare.variant_verdicts import NO_VARIANTS, VariantVerdicts
from zoobench.report.line_charts import LineChart
from zoobench.report.maps import ExplainedExamples
from zoobench.report.precision_recall import PrecisionRecall
from zoobench.report.rebuilt import PictureSheet
from zoobench.report.usability_view import NOT_ASKED, UsabilityView
from zoobench.report.worst import WorstPictures
from zoobench.report.worst_transcripts import WorstTranscripts


@dataclass(frozen=True)
class TransferTable:
    """A table for people: `about` is a sentence or two before it; the first column names.

    Where room is scarce, the columns `shared` stand once above the rows that agree in them,
    and `spare` ones are left to wider pages. `charts` show the same, where there is room for them.
    """

    name: str
    title: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shared: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    charts: tuple[LineChart, ...] = ()


@dataclass(frozen=True)
class ReportParts:
    """Each is empty where a run has nothing of it."""

    curves: Sequence[PrecisionRecall] = ()
    worst: Sequence[WorstPictures] = ()
    spoken: Sequence[WorstTranscripts] = ()
    variants: VariantVerdicts = NO_VARIANTS
    usability: UsabilityView = NOT_ASKED
    rebuilt: Sequence[PictureSheet] = ()
    maps: Sequence[ExplainedExamples] = ()


NOTHING_MORE = ReportParts()
