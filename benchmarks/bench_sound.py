"""Ten minutes of sound through an encoder of 5 M parameters: probe, ranking and report.

    python benchmarks/bench_sound.py [--clips 120] [--seconds 5]

The clips are gliding tones at 16 kHz in WAV files, half of them rising; the encoder has HuBERT's
form and weights at random, since speed asks for no others. Beside it stands the script that one
writes from the documentation: soundfile, transformers' own extractor and network a clip, the mean
over its frames, scikit-learn's logistic regression. Both start cold in a process of their own, in
turns, with as many threads as there are cores; ours also checks every file, counts what the model
costs, fits 45 lambdas and certifies them, runs the controls (majority, log-mel statistics and the
same encoder with other random weights, a second pass) and writes the report. First it is seen that
both read the same features. Seconds are of the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATE = 16_000
HUBERT = {
    "hidden_size": 192, "num_hidden_layers": 8, "num_attention_heads": 6, "intermediate_size": 768,
    "conv_dim": (128,) * 7, "num_conv_pos_embeddings": 64, "num_conv_pos_embedding_groups": 16,
}  # fmt: skip
SUITE = """
name = "bench"
precision = "fp32"
models = [{{ id = "hf/bench", weights = "{encoder}" }}]
datasets = [{{ id = "folder/clips", path = "{clips}" }}]
methods = ["linear-probe"]
"""
SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.preprocessing import StandardScaler
from transformers import AutoFeatureExtractor, AutoModel

encoder, clips, features = sys.argv[1:]
extractor = AutoFeatureExtractor.from_pretrained(encoder)
model = AutoModel.from_pretrained(encoder).eval()
rows, labels = [], []
with torch.no_grad():
    for path in sorted(Path(clips).rglob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32")
        inputs = extractor(samples, sampling_rate=rate, return_tensors="pt")
        rows.append(model(inputs.input_values).last_hidden_state[0].mean(0).numpy())
        labels.append(path.parent.name)
np.save(features, np.stack(rows))
scaled = StandardScaler().fit_transform(rows)
print(LogisticRegressionCV(Cs=10, cv=5, max_iter=1000, use_legacy_attributes=False,
                           l1_ratios=(0,), scoring="accuracy").fit(scaled, labels).C_)
"""


def write_clips(folder: Path, clips: int, seconds: float) -> None:
    """WAV files of tones that rise or fall by a fifth over the clip, in noise."""
    import soundfile

    rng = np.random.default_rng(0)
    for k in range(clips):
        rises = k % 2
        start = rng.uniform(200, 800)
        pitch = np.geomspace(start, start * (1.5 if rises else 1 / 1.5), round(seconds * RATE))
        samples = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
        samples += rng.normal(0, 0.03, len(pitch))
        into = folder / ("rising" if rises else "falling")
        into.mkdir(parents=True, exist_ok=True)
        soundfile.write(into / f"{k:04}.wav", samples.astype(np.float32), RATE)


def write_encoder(folder: Path) -> int:
    """A network of HuBERT's form in `folder`, and how many parameters it has."""
    import torch
    import transformers

    torch.manual_seed(0)
    module = transformers.HubertModel(transformers.HubertConfig(**HUBERT))
    module.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return sum(p.numel() for p in module.parameters())


def check_features(encoder: Path, clips: Path, theirs: Path) -> float:
    """The greatest difference of our features from the script's, relative to their spread."""
    import torch

    from zoobench import audio, models

    backbone = models.load(models.resolve(f"hf/bench?weights={encoder}"), 0)
    backbone.module.eval()
    rows = np.load(theirs)
    files = sorted(clips.rglob("*.wav"))
    some = list(range(0, len(files), max(1, len(files) // 8)))
    with torch.inference_mode():
        batches = [backbone.collate([backbone.prepare(audio.decode(str(files[k])))]) for k in some]
        ours = np.concatenate([backbone.embed(batch).numpy() for batch in batches])
    return float(np.abs(ours - rows[some]).max() / rows.std())


def seconds_of(command: list[str], environment: dict[str, str]) -> float:
    """Wall seconds of a command, which must end well."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        clips, encoder, suite = folder / "clips", folder / "encoder", folder / "suite.toml"
        write_clips(clips, arguments.clips, arguments.seconds)
        params = write_encoder(encoder)
        suite.write_text(SUITE.format(encoder=encoder, clips=clips))
        features = folder / "features.npy"
        script = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            SCRIPT,
            *map(str, (encoder, clips, features)),
        ]
        ours, theirs = [], []
        for turn in range(arguments.repeats):
            environment = {**os.environ, "ZOOBENCH_CACHE": str(folder / f"cache{turn}")}
            run = folder / f"run{turn}"
            zoobench = [sys.executable, "-m", "zoobench"]
            ran = seconds_of([*zoobench, "run", str(suite), "--device", "cpu", "--out", str(run)],
                             environment)  # fmt: skip
            reported = seconds_of([*zoobench, "report", str(run)], environment)
            ours.append(ran + reported)
            theirs.append(seconds_of(script, environment))
            if turn == 0:
                differs = check_features(encoder, clips, features)
                assert differs < 1e-3, f"features differ by {differs:.1e} of their spread"
        rows = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
        assert all(row["status"] == "ok" for row in rows), rows
        minutes = arguments.clips * arguments.seconds / 60
        print(f"{minutes:g} minutes of sound, {params / 1e6:.2f} M parameters, {os.cpu_count()} "
              f"cores; features differ by {differs:.0e} of their spread")  # fmt: skip
        for name, times in (("run and report", ours), ("script", theirs)):
            print(f"{name:16}{statistics.median(times):8.1f} s")
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"{'ratio':16}{ratio:8.2f}")


if __name__ == "__main__":
    main()
