"""A Hugging Face ``Trainer`` as a workload: a small BERT predicts the chapter of Python's manual for 24 words.

The text comes with every CPython (``pydoc_data.topics``) and changes with each of its versions; nothing is downloaded.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from tuner.training.adapters.hugging_face import fit
from tuner.training.handle import Run

CHAPTERS = ("specialnames", "compound", "string-methods", "types", "debugger", "assignment")
WORDS = 24
VOCABULARY = 800


@cache
def data() -> dict[str, list[dict[str, torch.Tensor]]]:
    """Passages that do not overlap, 60 % to train, 20 % each to validate and to test; the same split for every run."""
    passages: list[tuple[list[str], int]] = []
    for label, chapter in enumerate(CHAPTERS):
        words = topics[chapter].lower().split()
        passages.extend((words[i : i + WORDS], label) for i in range(0, len(words) - WORDS + 1, WORDS))
    random.Random(0).shuffle(passages)
    first, second = int(0.6 * len(passages)), int(0.8 * len(passages))
    counts = Counter(word for words, _ in passages[:first] for word in words)
    code = {word: i for i, (word, _) in enumerate(counts.most_common(VOCABULARY - 1), start=1)}
    rows = [
        {"input_ids": torch.tensor([code.get(word, 0) for word in words]), "labels": torch.tensor(label)}
        for words, label in passages
    ]
    return {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}


def accuracy(evaluation: Any) -> dict[str, float]:
    return {"accuracy": float(np.mean(evaluation.predictions.argmax(-1) == evaluation.label_ids))}


def train(run: Run) -> None:
    """Train: build the trainer as usual, and call ``fit(run, trainer)`` instead of ``trainer.train()``."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=WORDS,
        num_labels=len(CHAPTERS),
        initializer_range=0.1,
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(
            output_dir=".", per_device_train_batch_size=16, per_device_eval_batch_size=64, eval_strategy="epoch"
        ),
        train_dataset=data()["train"],
        eval_dataset=data()["validation"],
        compute_metrics=accuracy,
    )
    fit(run, trainer, test_dataset=data()["test"])
