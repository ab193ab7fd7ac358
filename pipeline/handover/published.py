"""Schema of published.csv, the results of the papers; see `pipeline.analysis.published`."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from pipeline.config.update_rules import TunedRule
from pipeline.handover.tables import Column, Table

_FRACTION, _CHANGE, _PERCENT = Column("number", 0, 1), Column("number", -1, 1), Column("number", 0, 100)
_SIZE, _ANY = Column("number", 0), Column("number")
_RUNS = Column("text", blank=True)

#: Names of strategies in published.csv: those of TAG's code, in which multi-task learning is passes over the tasks in
#: sequence, and those of the A-GEM papers' protocol.
PUBLISHED_STRATEGIES = (
    "finetune", "agem", "er", "stable", "ewc", "multitask",
    "online-ewc", "si", "mas-published", "gem", "agem-256", "agem-1300", "er-ring", "er-reservoir", "multitask-joint",
)  # fmt: skip

#: TAG, A-GEM, and tiny episodic memories.
PUBLISHED_PAPERS = ("arXiv:2105.05155", "arXiv:1812.00420", "arXiv:1902.10486")

#: published.csv: the results of TAG's experiments and of the A-GEM papers' protocol; see `pipeline.analysis.published`.
PUBLISHED = Table(
    {
        "paper": Column("text", words=PUBLISHED_PAPERS),
        "benchmark": Column("name"),
        "epochs": Column("whole", 1),
        "row": Column("text"),
        "optimizer": Column("text", words=get_args(TunedRule)),
        "strategy": Column("text", words=PUBLISHED_STRATEGIES),
        "lr": replace(_SIZE, blank=True),
        "lr_decay": _FRACTION,
        "dropout": _FRACTION,
        "batch_size": Column("whole", 1),
        "b": replace(_ANY, blank=True),
        "ewc_lambda": replace(_SIZE, blank=True),
        "memory_per_class": Column("number", 1, blank=True),
        "settings": Column("text", blank=True),  # of strategy and update rule: key=value, with spaces between
        "runs": Column("whole", 1),
        "acc_mean": _PERCENT,
        "acc_std": replace(_PERCENT, blank=True),
        "forgetting_mean": replace(_CHANGE, blank=True),
        "forgetting_std": replace(_FRACTION, blank=True),
        "la_mean": replace(_PERCENT, blank=True),
        "la_std": replace(_PERCENT, blank=True),
        "acc_runs": _RUNS,
        "forgetting_runs": _RUNS,
        "la_runs": _RUNS,
    },
    ("benchmark", "epochs", "optimizer", "strategy", "memory_per_class"),
    least=1,
)
