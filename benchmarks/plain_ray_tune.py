"""A search of 24 settings as one would write it without tuner: Ray Tune, OptunaSearch, ASHA, MLflow's logger.

Run by ``side_by_side.py``. Model, data and batches are those of the digits workload, trained by a
plain loop; the rest follows Ray Tune's documentation. ``--reuse`` sets ``reuse_actors=True``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

EPOCHS, SETTINGS = 18, 24


def train(config: dict[str, Any]) -> None:
    """Train the digits CNN for 18 epochs with a cosine schedule, with a report after each epoch."""
    import torch
    from ray import tune

    from tuner.training.workloads.digits import DigitsCNN

    torch.set_num_threads(1)
    torch.manual_seed(0)
    workload = DigitsCNN()
    workload.setup()
    model = workload.model(0)
    if config["optimizer"] == "sgdm":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=config["sgdm_lr"], momentum=config["momentum"], weight_decay=config["l2"]
        )
    else:
        betas = (config["beta1"], 0.999)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config["adamw_lr"], betas=betas, weight_decay=config["weight_decay"]
        )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * workload.steps_per_epoch)
    for epoch in range(EPOCHS):
        model.train()
        for batch in workload.train_batches(epoch, 0):
            optimizer.zero_grad()
            workload.loss(model, batch).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            values = workload.evaluate(model, "validation")
        tune.report({**values, "training_iteration": epoch + 1})


def space(trial: Any) -> None:
    """Define the space by Optuna's define-by-run: the family, then its own settings."""
    if trial.suggest_categorical("optimizer", ["sgdm", "adamw"]) == "sgdm":
        trial.suggest_float("sgdm_lr", 1e-3, 10.0, log=True)
        trial.suggest_float("momentum", 0.5, 0.995)
        trial.suggest_float("l2", 1e-7, 1e-2, log=True)
    else:
        trial.suggest_float("adamw_lr", 1e-5, 3e-2, log=True)
        trial.suggest_float("beta1", 0.5, 0.996)
        trial.suggest_float("weight_decay", 1e-4, 1.0, log=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reuse", action="store_true")
    reuse = parser.parse_args().reuse
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", MLFLOW_DISABLE_TELEMETRY="true", RAY_AUTH_MODE="disabled")
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    here = os.getcwd()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    began = time.perf_counter()
    results = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=SETTINGS,
            search_alg=OptunaSearch(space=space, metric="accuracy", mode="max"),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=2),
            **({"reuse_actors": True} if reuse else {}),
        ),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=os.path.join(here, "ray_results"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{here}/mlflow.db", experiment_name="plain")],
        ),
    ).fit()
    epochs = sum(int(result.metrics["training_iteration"]) for result in results if result.metrics)
    best = max(float(result.metrics["accuracy"]) for result in results if result.metrics)
    print(json.dumps({"epochs": epochs, "best": best, "fit_seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
