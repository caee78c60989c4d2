"""A setting as a mixin for a LightningModule and as Trainer's arguments; the optimizer's code is that for torch."""

from __future__ import annotations

from tuner.catalog.families import SWITCH
from tuner.exports.torch_code import assembled, average_code, common_notes
from tuner.exports.writing import Export, Plan, header, number

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_AVERAGING = "from lightning.pytorch.callbacks import WeightAveraging"


def export(plan: Plan) -> Export:
    """Return the mixin ``Tuned`` and the dictionary ``TRAINER``."""
    notes = common_notes(plan)
    if plan.training["accumulation"] != 1:
        notes.append("Lightning also steps at an epoch's end on fewer batches than the accumulation asks for.")
    averaged = plan.training["average"] != "none"
    parts = [part for part in (average_code(plan), _averaging(plan)) if part]
    text = assembled(plan, *parts, _mixin(plan), _trainer(plan), more=(_AVERAGING,) if averaged else ())
    return Export("lightning", header(plan, notes) + text, tuple(notes))


def _mixin(plan: Plan) -> str:
    lines = [
        "class Tuned:",
        '    """To be named before LightningModule: class Model(Tuned, LightningModule)."""',
        "",
        "    def configure_optimizers(self):",
        "        optimizer, scheduler = build(self, self.trainer.estimated_stepping_batches)",
        '        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}',
    ]
    if plan.training["clip_norm"] and plan.training["clip_value"]:
        lines += [
            "",
            "    def configure_gradient_clipping(self, optimizer, **_):  # Trainer's own argument takes one of the two",
            f"        torch.nn.utils.clip_grad_norm_(self.parameters(), {number(plan.training['clip_norm'])})",
            f"        torch.nn.utils.clip_grad_value_(self.parameters(), {number(plan.training['clip_value'])})",
        ]
    return "\n".join([*lines, *(_SWITCHED if SWITCH in plan.row.needs else [])]) + "\n"


_SWITCHED = """
    def _switch(self, mode):  # other weights are evaluated than trained
        for optimizer in self.trainer.optimizers if self.trainer.state.fn == "fit" else []:
            getattr(optimizer, mode)()

    def on_train_start(self):
        self._switch("train")

    def on_validation_start(self):
        self._switch("eval")

    def on_validation_end(self):
        self._switch("train")

    def on_train_end(self):
        self._switch("eval")""".splitlines()


def _averaging(plan: Plan) -> str:
    if plan.training["average"] != "swa":
        return ""
    return f'''class Late(WeightAveraging):
    """The plain average of the weights after {number(plan.training["swa_start"])} of all steps."""

    def setup(self, trainer, pl_module, stage):
        super().setup(trainer, pl_module, stage)
        self.first = int({number(plan.training["swa_start"])} * trainer.estimated_stepping_batches)

    def should_update(self, step_idx=None, epoch_idx=None):
        return step_idx is not None and step_idx + 1 > self.first
'''


def _trainer(plan: Plan) -> str:
    r = plan.training
    given = {"max_steps": str(plan.steps)} if plan.steps else {}
    given |= {"max_epochs": number(plan.epochs)} if plan.epochs and plan.epochs == int(plan.epochs) else {}
    if bool(r["clip_norm"]) != bool(r["clip_value"]):
        kind = "norm" if r["clip_norm"] else "value"
        given |= {"gradient_clip_val": number(r[f"clip_{kind}"]), "gradient_clip_algorithm": f'"{kind}"'}
    given |= {"accumulate_grad_batches": str(r["accumulation"])} if r["accumulation"] != 1 else {}
    given |= {"precision": f'"{_PRECISION[str(r["precision"])]}"'}
    average = {"ema": "WeightAveraging(use_buffers=False, avg_fn=ema)", "swa": "Late(use_buffers=False)"}
    given |= {"callbacks": f"[{average[str(r['average'])]}]"} if r["average"] != "none" else {}
    rows = "".join(f'    "{key}": {value},\n' for key, value in given.items())
    return f"TRAINER = {{\n{rows}}}  # lightning.Trainer(**TRAINER)\n"
