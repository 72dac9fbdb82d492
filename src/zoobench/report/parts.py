"""What a report shows beyond its ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoobench.compare.variant_verdicts import NO_VARIANTS, VariantVerdicts
from zoobench.report.precision_recall import PrecisionRecall
from zoobench.report.usability_view import NOT_ASKED, UsabilityView
from zoobench.report.worst import WorstPictures
from zoobench.report.worst_transcripts import WorstTranscripts


@dataclass(frozen=True)
class ReportParts:
    """Each is empty where a run has nothing of it."""

    curves: Sequence[PrecisionRecall] = ()
    worst: Sequence[WorstPictures] = ()
    spoken: Sequence[WorstTranscripts] = ()
    variants: VariantVerdicts = NO_VARIANTS
    usability: UsabilityView = NOT_ASKED


NOTHING_MORE = ReportParts()
