"""METRICS: every number that zoobench can print, with its unit and which way is better.

Definitions stand in docs/protocol.md; `section` names the part of it: "quality" (section
3), "cost" (section 4), "transfer" (sections 2 and 5) or "trust" (section 8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from zoobench import plugins
from zoobench.errors import unknown
from zoobench.schema import Better, Measurement


@dataclass(frozen=True)
class MetricRow:
    """`unit` is "" where a number has none, and "target" where it is the dataset's own: such
    numbers of two datasets are never averaged. `about` is one line for `list` and the report.
    """

    unit: str
    better: Better
    section: str
    about: str


METRICS: dict[str, MetricRow] = {
    "accuracy": MetricRow("fraction", "higher", "quality", "test examples classified rightly"),
    "balanced_accuracy": MetricRow(
        "fraction", "higher", "quality", "mean recall over the classes that the test labels hold"
    ),
    "macro_precision": MetricRow(
        "fraction", "higher", "quality", "mean precision over the classes seen; 0 where undefined"
    ),
    "macro_recall": MetricRow(
        "fraction", "higher", "quality", "mean recall over the classes seen; 0 where undefined"
    ),
    "macro_f1": MetricRow(
        "fraction", "higher", "quality", "mean F1 over the classes seen; 0 where undefined"
    ),
    "top5_accuracy": MetricRow(
        "fraction", "higher", "quality", "true class among the best five; where C > 10"
    ),
    "single_template_accuracy": MetricRow(
        "fraction", "higher", "quality", "by the names of classes in one template alone"
    ),
    "least_template_accuracy": MetricRow(
        "fraction", "higher", "quality", "by the template that serves worst"
    ),
    "greatest_template_accuracy": MetricRow(
        "fraction",
        "higher",
        "quality",
        "by the template that serves best, known afterwards",
    ),
    "nll": MetricRow("nats", "lower", "quality", "mean negative log-likelihood"),
    "ece": MetricRow(
        "fraction", "lower", "quality", "expected calibration error, 15 equal-width bins"
    ),
    "ece_calibrated": MetricRow(
        "fraction", "lower", "quality", "the same after temperature scaling on valid"
    ),
    "mae": MetricRow("target", "lower", "quality", "mean absolute error"),
    "rmse": MetricRow("target", "lower", "quality", "root of the mean squared error"),
    "r2": MetricRow(
        "", "higher", "quality", "1 - squared error / squared distance to the test targets' mean"
    ),
    "spearman": MetricRow("", "higher", "quality", "rank correlation with the targets"),
    "miou": MetricRow(
        "fraction", "higher", "quality", "mean IoU over the classes that the test masks hold"
    ),
    "miou_foreground": MetricRow(
        "fraction", "higher", "quality", "the same without the background, the first class"
    ),
    "pixel_accuracy": MetricRow("fraction", "higher", "quality", "pixels classified rightly"),
    "picture_miou": MetricRow(
        "fraction", "higher", "quality", "mean over pictures of the mIoU of their own classes"
    ),
    "ap": MetricRow(
        "fraction", "higher", "quality", "COCO AP: mean over classes and IoU of 0.50 to 0.95"
    ),
    "ap50": MetricRow("fraction", "higher", "quality", "AP at an IoU of 0.50"),
    "ap75": MetricRow("fraction", "higher", "quality", "AP at an IoU of 0.75"),
    "ap_small": MetricRow("fraction", "higher", "quality", "AP of objects below 32 x 32 pixels"),
    "ap_medium": MetricRow("fraction", "higher", "quality", "AP of objects up to 96 x 96 pixels"),
    "ap_large": MetricRow("fraction", "higher", "quality", "AP of objects above 96 x 96 pixels"),
    "ar100": MetricRow(
        "fraction", "higher", "quality", "recall of 100 detections a picture, over the same IoU"
    ),
    "entity_f1": MetricRow(
        "fraction", "higher", "quality", "F1 of entities, whole and of the right type (conlleval)"
    ),
    "strict_entity_f1": MetricRow(
        "fraction", "higher", "quality", "the same of entities that begin with a B- (strict IOB2)"
    ),
    "entity_precision": MetricRow(
        "fraction", "higher", "quality", "share of the entities said that are right"
    ),
    "entity_recall": MetricRow(
        "fraction", "higher", "quality", "share of the true entities that are found"
    ),
    "token_accuracy": MetricRow("fraction", "higher", "quality", "words with the right tag"),
    "sentence_accuracy": MetricRow(
        "fraction", "higher", "quality", "sentences all of whose words have the right tag"
    ),
    "f1": MetricRow(
        "fraction", "higher", "quality", "mean over questions of the F1 of words, as SQuAD's script"
    ),
    "exact_match": MetricRow(
        "fraction", "higher", "quality", "questions answered as a gold answer is, as SQuAD's script"
    ),
    "has_answer_f1": MetricRow(
        "fraction", "higher", "quality", "F1 over the questions that have an answer"
    ),
    "no_answer_f1": MetricRow(
        "fraction", "higher", "quality", "share of the questions without an answer given none"
    ),
    "bits_per_byte": MetricRow(
        "bits/byte", "lower", "quality", "bits of all documents over their UTF-8 bytes"
    ),
    "document_bits_per_byte": MetricRow(
        "bits/byte", "lower", "quality", "mean over documents of each one's bits per byte"
    ),
    "pseudo_bits_per_byte": MetricRow(
        "bits/byte", "lower", "quality", "the same of a masked model's pseudo-likelihood"
    ),
    "document_pseudo_bits_per_byte": MetricRow(
        "bits/byte", "lower", "quality", "mean over documents of each one's pseudo bits per byte"
    ),
    "wer": MetricRow(
        "edits/word", "lower", "quality", "words substituted, deleted and inserted, over all words"
    ),
    "cer": MetricRow("edits/character", "lower", "quality", "the same of characters"),
    "utterance_accuracy": MetricRow(
        "fraction", "higher", "quality", "utterances without a wrong word"
    ),
    **{
        f"{way}recall_at_{k}": MetricRow("fraction", "higher", "quality", about.format(k))
        for way, about in (
            ("", "mean of the two ways to retrieve: the right one among the first {}"),
            ("image_to_text_", "pictures with a caption of theirs among the first {}"),
            ("text_to_image_", "captions with their picture among the first {}"),
        )
        for k in (1, 5, 10)
    },
    "psnr": MetricRow("dB", "higher", "quality", "10 log10(1 / mean squared difference) of pixels"),
    "ssim": MetricRow("", "higher", "quality", "structural similarity of two pictures, 1 if equal"),
    "lpips": MetricRow(
        "", "lower", "quality", "distance of two pictures by AlexNet, as people judged such"
    ),
    "kid": MetricRow(
        "", "lower", "quality", "kernel distance of samples from real pictures, 0 if none"
    ),
    "fid": MetricRow("", "lower", "quality", "Frechet distance of samples from real pictures"),
    "sample_precision": MetricRow(
        "fraction", "higher", "quality", "samples that lie among real pictures, in features"
    ),
    "sample_recall": MetricRow(
        "fraction", "higher", "quality", "real pictures that lie among the samples, in features"
    ),
    "kid_floor": MetricRow("", "lower", "transfer", "kid of real pictures of train from test's"),
    "fid_floor": MetricRow("", "lower", "transfer", "fid of real pictures of train from test's"),
    "sample_precision_floor": MetricRow(
        "fraction", "higher", "transfer", "sample_precision of real pictures of train"
    ),
    "sample_recall_floor": MetricRow(
        "fraction", "higher", "transfer", "sample_recall of real pictures of train"
    ),
    "bits_per_dim": MetricRow(
        "bits", "lower", "quality", "of a number of a picture, by the evidence lower bound"
    ),
    "masked_lm_loss": MetricRow(
        "nats", "lower", "quality", "cross-entropy of the 15% of a text's bytes that are hidden"
    ),
    "pretraining_valid_accuracy": MetricRow(
        "fraction", "none", "transfer", "kNN on valid of what was pretrained; chooses its rate"
    ),
    "examples_seen": MetricRow("", "none", "transfer", "examples of one pretraining, repeats too"),
    "train_mae": MetricRow("target", "none", "transfer", "mean absolute error on the train split"),
    "train_accuracy": MetricRow("fraction", "none", "transfer", "accuracy on the train split"),
    "generalization_gap": MetricRow(
        "fraction", "lower", "transfer", "train accuracy minus test accuracy"
    ),
    "transfer_gain": MetricRow(
        "fraction", "higher", "transfer", "fine-tune minus from-scratch, same recipe"
    ),
    "iterations": MetricRow("", "none", "transfer", "solver or optimiser steps taken"),
    "gradient_pieces": MetricRow(
        "", "none", "transfer", "pieces that each training batch was cut into, to fit the memory"
    ),
    "steps": MetricRow("", "none", "transfer", "training steps of one run of the grid"),
    "train_accuracy_online": MetricRow(
        "fraction", "none", "transfer", "accuracy on the training batches as they were seen"
    ),
    "valid_accuracy": MetricRow("fraction", "none", "transfer", "of the choice, on valid"),
    "valid_nll": MetricRow("nats", "none", "transfer", "of the choice, on valid"),
    "classes_known": MetricRow(
        "", "none", "transfer", "classes of the data that a complete model has a label for"
    ),
    "accuracy_known": MetricRow(
        "fraction", "none", "transfer", "accuracy on the classes that a complete model knows"
    ),
    "miou_known": MetricRow(
        "fraction", "none", "transfer", "mIoU over the classes that a complete model knows"
    ),
    "ap_known": MetricRow(
        "fraction", "none", "transfer", "AP over the classes that a complete model knows"
    ),
    "entity_f1_known": MetricRow(
        "fraction", "none", "transfer", "mean F1 of the types that a complete model knows"
    ),
    "valid_entity_f1": MetricRow(
        "fraction", "none", "transfer", "entity F1 of the choice, on valid"
    ),
    "valid_miou": MetricRow("fraction", "none", "transfer", "of the choice, on valid's cells"),
    "valid_f1": MetricRow("fraction", "none", "transfer", "of the choice, on valid"),
    "valid_ap": MetricRow("fraction", "none", "transfer", "AP of the choice, on valid"),
    "valid_wer": MetricRow("edits/word", "none", "transfer", "WER of the choice, on valid"),
    "valid_cer": MetricRow("edits/character", "none", "transfer", "CER of the choice, on valid"),
    "train_infeasible": MetricRow(
        "", "none", "transfer", "recordings of train with fewer frames than CTC needs, left out"
    ),
    "train_words": MetricRow("", "none", "transfer", "words of train that the probe learned from"),
    "train_cells": MetricRow("", "none", "transfer", "cells of train that the probe learned from"),
    "loo_accuracy": MetricRow("fraction", "none", "transfer", "ridge: leave-one-out on train"),
    "loo_error": MetricRow("", "none", "transfer", "ridge: mean squared leave-one-out error"),
    "temperature": MetricRow("", "none", "transfer", "that calibrates ridge scores, by LOO"),
    "path_points": MetricRow("", "none", "transfer", "points of the regularisation path"),
    "grid_extended": MetricRow("", "none", "transfer", "times the grid of lambdas was extended"),
    "objective": MetricRow("nats", "none", "transfer", "the probe's objective at its solution"),
    "relative_gradient_norm": MetricRow(
        "", "lower", "transfer", "of the probe's objective at the returned solution"
    ),
    "relative_gap": MetricRow(
        "", "lower", "transfer", "bound of the objective's relative distance to its optimum"
    ),
    "valid_relative_gap": MetricRow(
        "", "lower", "transfer", "the same for the fit that the choice was made on"
    ),
    "membership_auc": MetricRow(
        "fraction", "lower", "trust", "an attack tells members of train from others; 0.5 by chance"
    ),
    "membership_loss_auc": MetricRow(
        "fraction", "lower", "trust", "the same by a threshold of the loss alone"
    ),
    "membership_tpr_at_1pct_fpr": MetricRow(
        "fraction", "lower", "trust", "members found where 1% of the others are taken for some"
    ),
    "insertion_auc": MetricRow(
        "fraction", "higher", "trust", "probability of the class as parts are shown where none were"
    ),
    "deletion_auc": MetricRow(
        "fraction", "lower", "trust", "the same as parts are hidden, the most important first"
    ),
    "explanation_gain": MetricRow(
        "", "higher", "trust", "insertion minus deletion; a map must beat its controls"
    ),
    "pointing_game": MetricRow(
        "fraction", "higher", "trust", "most important tiles that lie where the class is to be seen"
    ),
    "mean_retained": MetricRow(
        "", "higher", "trust", "score under corruptions over the clean one, mean over corruptions"
    ),
    "logme": MetricRow("nats", "higher", "transfer", "LogME of the train features"),
    "h_score": MetricRow("", "higher", "transfer", "regularised H-score of the train features"),
    "transrate": MetricRow("nats", "higher", "transfer", "TransRate of the train features"),
    "leep": MetricRow("nats", "higher", "transfer", "LEEP, by the classifier the weights had"),
    "nce": MetricRow("nats", "higher", "transfer", "negative conditional entropy, likewise"),
    "params": MetricRow("", "lower", "cost", "parameters"),
    "trainable_params": MetricRow("", "lower", "cost", "parameters that the method trains"),
    "weights_bytes": MetricRow("bytes", "lower", "cost", "parameters and buffers as stored"),
    "coverage": MetricRow(
        "fraction", "none", "cost", "share of the parameters that a variant touches"
    ),
    "feature_dim": MetricRow("", "none", "cost", "length of the feature vector"),
    "macs": MetricRow("", "lower", "cost", "multiply-accumulates of one forward pass, 1 example"),
    "flops": MetricRow("", "lower", "cost", "floating-point operations: 2 x macs"),
    "train_macs": MetricRow("", "lower", "cost", "macs of forward and backward, 1 example"),
    "train_flops": MetricRow("", "lower", "cost", "floating-point operations: 2 x train_macs"),
    "activation_bytes": MetricRow(
        "bytes", "lower", "cost", "activations kept for the backward pass, batch 1"
    ),
    "latency_ms_p50": MetricRow("ms", "lower", "cost", "median time of one forward, batch 1"),
    "latency_ms_p95": MetricRow("ms", "lower", "cost", "95th percentile of the same"),
    "real_time_factor": MetricRow(
        "s/s", "lower", "cost", "seconds of one forward, batch 1, for each second of sound in it"
    ),
    "throughput": MetricRow(
        "examples/s", "higher", "cost", "at the best power-of-two batch up to a bound"
    ),
    "peak_memory_bytes": MetricRow(
        "bytes", "lower", "cost", "peak of inference: CUDA allocated, or RSS over its baseline"
    ),
    "pretraining_macs": MetricRow(
        "", "lower", "cost", "macs of one pretraining at one rate, forward and backward"
    ),
    "pretraining_joules": MetricRow(
        "J", "lower", "cost", "energy of pretraining at all rates, where NVML or RAPL gives it"
    ),
    "pretraining_seconds": MetricRow("s", "lower", "cost", "pretraining at all rates, with kNN"),
    "train_step_ms": MetricRow("ms", "lower", "cost", "median time of one training step"),
    "train_peak_memory_bytes": MetricRow("bytes", "lower", "cost", "peak of a training step"),
    "train_memory_bytes": MetricRow(
        "bytes", "lower", "cost", "of training, counted: weights, gradients, optimiser, activations"
    ),
    "load_seconds": MetricRow("s", "lower", "cost", "from name to a model ready to run"),
    "load_seconds_cold": MetricRow("s", "lower", "cost", "the same, first load in a fresh process"),
    "answer_real_time_factor": MetricRow(
        "", "lower", "cost", "seconds that a recogniser takes for a second of the test recordings"
    ),
    "extract_seconds": MetricRow("s", "lower", "cost", "features of all splits"),
    "extract_waiting_share": MetricRow(
        "fraction", "lower", "cost", "of the extraction, in which what computes had no batch yet"
    ),
    "fit_seconds": MetricRow("s", "lower", "cost", "the head's or the vote's fit, with choices"),
    "predict_seconds": MetricRow("s", "lower", "cost", "scores of test from its features"),
    "train_seconds": MetricRow("s", "lower", "cost", "training of the whole model"),
    "compile_seconds": MetricRow(
        "s", "lower", "cost", "torch.compile with its first runs; in total_seconds alone"
    ),
    "audit_seconds": MetricRow(
        "s", "lower", "cost", "what the options explain and membership ask; in no other time"
    ),
    "total_seconds": MetricRow("s", "lower", "cost", "the whole cell"),
    "energy_joules": MetricRow(
        "J", "lower", "cost", "energy of one example at the best batch, where NVML or RAPL gives it"
    ),
}


WRITTEN = {"kid": ".3g", "fid": ".3g", "lpips": ".3g", "psnr": ".2f"}
"""How numbers of a metric are written, of others to three places."""


def metric(name: str, where: str = "") -> MetricRow:
    """The row of `name`; raises UnknownName (nearest and known names said) from `where`."""
    row = METRICS.get(name) or theirs().get(name)
    if row is None:
        raise unknown(where, "metric", name, {**theirs(), **METRICS})
    return row


@cache
def theirs() -> Mapping[str, MetricRow]:
    """The rows of tasks of other packages: the attribute `rows` of each."""
    rows: dict[str, MetricRow] = {}
    for _, kind in plugins.every("tasks", {}):
        rows.update(getattr(kind, "rows", {}))
    return rows


def bounded(name: str) -> bool:
    """Whether the best possible value is 1: a fraction of which more is better."""
    row = metric(name)
    return row.unit == "fraction" and row.better == "higher"


def fraction(name: str) -> bool:
    """Whether the metric lies in [0, 1] and is written in percent."""
    return metric(name).unit == "fraction"


def written(name: str, value: float) -> str:
    """A value for people: a fraction in percent, what has the target's unit to four digits, what
    may be of any size to three."""
    if fraction(name):
        return f"{100 * value:.1f}"
    if metric(name).unit == "target":
        return f"{value:.4g}"
    return f"{value:{WRITTEN.get(name.removesuffix('_floor'), '.3f')}}"


def difference(name: str, gap: float) -> str:
    """A difference for people: "1.2 points" of a fraction, else in the metric's unit."""
    if fraction(name):
        return f"{100 * gap:.1f} points"
    unit = metric(name).unit
    return written(name, gap) + (f" {unit}" if unit not in ("", "target") else "")


def sign(name: str) -> int:
    """+1 where a higher value is better, -1 where a lower one is."""
    return -1 if metric(name).better == "lower" else 1


def measured(name: str, value: float, **more: Any) -> Measurement:
    """A Measurement of `name` with the table's unit and direction; `more` are other fields."""
    row = metric(name)
    return Measurement(name, value, unit=row.unit, better=row.better, **more)
