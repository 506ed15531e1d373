"""The evaluation's settings: the fields of `Evaluation`, which explains them."""

from __future__ import annotations

from dataclasses import asdict, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from profi.settings.evaluation import Evaluation


def _check(settings: Any) -> None:
    Evaluation(**asdict(settings))


if TYPE_CHECKING:
    EvaluationConfig = Evaluation
else:
    # OmegaConf fills in no frozen class and knows no Literal: the same fields as texts, checked by
    # the class that they are of.
    EvaluationConfig = make_dataclass(
        "EvaluationConfig",
        [(spec.name, str, field(default=spec.default)) for spec in fields(Evaluation)],
        namespace={"__post_init__": _check, "__module__": __name__, "__doc__": __doc__},
    )
