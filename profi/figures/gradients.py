"""Figures 10 and 11: the values of RASG's gradient, before and after it is standardised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing, Pick
from profi.figures.layout import COLOURS, FULL, new_figure
from profi.fitting import contents
from profi.harness.plan import Plan
from profi.method.inpainting import StableInpainting
from profi.method.rasg import standardised
from profi.method.trace import Trace
from profi.types import Triplet, UserError

#: Pictures, and shares of the sampling whose steps have a histogram.
EXAMPLES, SHARES = 4, (0.0, 0.25, 0.5, 0.75, 1.0)
#: The 5 % point of the Kolmogorov-Smirnov distance to a normal distribution that was fitted to the
#: same n values, times sqrt(n) (Lilliefors 1967).
LILLIEFORS = 0.886


@dataclass(frozen=True, eq=False)
class Gradients:
    """One picture's gradients: the guided steps' numbers, [steps], and the values, [steps, n]."""

    prompt: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Fit:
    """Statistics per step: of n values the mean, the standard deviation, the excess kurtosis, and
    the Kolmogorov-Smirnov distance to the normal distribution of this mean and deviation."""

    mean: np.ndarray
    std: np.ndarray
    kurtosis: np.ndarray
    distance: np.ndarray


def figure_10(context: FigureContext) -> Drawing:
    """The gradient of S(x_t)."""
    found, chosen = _painted(context)
    fits = [fit(one.values) for one in found]
    figure, left, right = _histograms(found, fits[0], "gradient", "fitted normal")
    for one, fitted, colour in zip(found, fits, COLOURS, strict=False):
        left.plot(one.steps, fitted.std, color=colour)
        right.plot(one.steps, fitted.mean / fitted.std, color=colour)
    left.set(xlabel="step", ylabel="standard deviation", yscale="log")
    _plain_ticks(left)
    right.axhline(0, color="#888888", linewidth=0.6, zorder=0)
    right.set(xlabel="step", ylabel="mean / std. dev.", ylim=_around_zero(right))
    spans = [f"{min(f.std):.2g} to {max(f.std):.2g}" for f in fits]
    return Drawing(
        figure,
        "The values of the gradient of S(x_t) before it is standardised. Top: all values of one "
        f"picture ({found[0].prompt}) at five steps, with the normal distribution of their mean "
        "and standard deviation. Bottom: the standard deviation and the mean (in standard "
        "deviations) over the steps, a line per picture.",
        _rule(context),
        chosen,
        {f"standard deviation, {one.prompt}": span for one, span in zip(found, spans, strict=True)}
        | _numbers(found, fits),
    )


def figure_11(context: FigureContext) -> Drawing:
    """The gradient divided by its standard deviation, as eq. 8 uses it."""
    context.drawn_as = "10"
    found, chosen = _painted(context, standardise)
    fits = [fit(one.values) for one in found]
    unit = Fit(np.zeros_like(fits[0].mean), np.ones_like(fits[0].std), *_shape(fits[0]))
    figure, left, right = _histograms(found, unit, "gradient / std. dev.", "N(0, 1)", (-5, 5))
    count = found[0].values.shape[1]
    point = LILLIEFORS / np.sqrt(count)
    middle = float(np.nanmedian(np.concatenate([one.distance for one in fits])))
    for one, fitted, colour in zip(found, fits, COLOURS, strict=False):
        left.plot(one.steps, fitted.distance, color=colour)
        right.plot(one.steps, fitted.kurtosis, color=colour)
    left.axhline(point, color="black", linestyle="--", linewidth=0.8)
    left.set(xlabel="step", ylabel="distance D", ylim=(0, None))
    right.axhline(0, color="black", linestyle="--", linewidth=0.8)
    right.set(xlabel="step", ylabel="excess kurtosis")
    return Drawing(
        figure,
        "The values of the gradient of S(x_t) after the division by their standard deviation (eq. "
        f"8; the mean is not subtracted). Top: all values of one picture ({found[0].prompt}) at "
        "five steps, with the standard normal distribution. Bottom left: the Kolmogorov-Smirnov "
        "distance D to the fitted normal distribution over the steps, a line per picture; dashed: "
        f"its 5 % point for {count} independent normal values. Bottom right: the excess kurtosis, "
        "0 for a normal distribution. Neighbouring values are not independent, so no p-value is "
        f"given. The median of D is {middle:.3f}, {middle / point:.1f} times its 5 % point.",
        _rule(context),
        chosen,
        _numbers(found, fits),
    )


def standardise(values: np.ndarray) -> np.ndarray:
    """Eq. 8's standardisation of every step, [steps, n]: that of the method itself."""
    return standardised(torch.from_numpy(values)).numpy()


def fit(values: np.ndarray) -> Fit:
    """The statistics of [steps, n]; the deviation is the unbiased one, as in eq. 8."""
    mean, std = values.mean(axis=1), values.std(axis=1, ddof=1)
    distance = [
        float(stats.kstest(line, stats.norm(m, s).cdf).statistic) if s > 0 else np.nan
        for line, m, s in zip(values, mean, std, strict=True)
    ]
    return Fit(mean, std, stats.kurtosis(values, axis=1), np.array(distance))


def gradients_of(
    row: StableInpainting, plan: Plan, triplets: Sequence[Triplet]
) -> dict[str, Gradients]:
    """Paint triplets by a run's plan and record the gradients of every guided step, by triplet."""
    found = {}
    for batch in plan.batches(triplets):
        fitted, trace = [plan.fitted(triplet) for triplet in batch], Trace()
        row(
            torch.stack([one.image for one in fitted]),
            torch.stack([one.mask for one in fitted]),
            [triplet.prompt for triplet in batch],
            [plan.noise_seed(triplet) for triplet in batch],
            contents=contents(fitted, plan.evaluation.dilation),
            trace=trace,
        )
        guided = [(s.step_index + 1, s.gradient) for s in trace.steps if s.gradient is not None]
        if not guided:
            raise UserError(
                "RASG guides no step with these settings: raise rasg.until or reading.eta"
            )
        for i, triplet in enumerate(batch):
            values = np.stack([g[i].flatten().double().numpy() for _, g in guided])
            steps = np.array([number for number, _ in guided])
            found[triplet.triplet_id] = Gradients(triplet.prompt, steps, values)
    return found


def _painted(
    context: FigureContext, change: Callable[[np.ndarray], np.ndarray] = lambda values: values
) -> tuple[list[Gradients], list[Pick]]:
    """The gradients of the chosen triplets, painted by RASG alone."""
    config = context.of_one_model("rasg_only")
    run = context.runs(config)[0]
    context.painted.append(run)
    triplets = {t.triplet_id: t for t in context.triplets(config)}
    picks = [Pick(name, run.seed) for name in triplets]
    chosen = context.choose(picks, lambda pick: triplets[pick.triplet_id].prompt, EXAMPLES, picks)
    (row,) = context.inpainters(config).values()
    painted = gradients_of(row, run.plan, [triplets[pick.triplet_id] for pick in chosen])
    found = [painted[pick.triplet_id] for pick in chosen]
    return [Gradients(one.prompt, one.steps, change(one.values)) for one in found], chosen


def _rule(context: FigureContext) -> str:
    return context.rule("All triplets of the settings; the histograms are of the first one shown.")


def _numbers(found: Sequence[Gradients], fits: Sequence[Fit]) -> dict[str, str]:
    """Medians over steps and pictures."""
    joined = {
        name: np.concatenate([getattr(one, name) for one in fits])
        for name in ("mean", "std", "kurtosis", "distance")
    }
    ratio = np.abs(joined["mean"] / joined["std"])
    count = found[0].values.shape[1]
    return {
        "values per gradient": str(count),
        "gradients (pictures x steps)": str(len(ratio)),
        "|mean| / standard deviation": _span(ratio),
        "Kolmogorov-Smirnov D to the fitted normal": _span(joined["distance"]),
        "5 % point of D for independent normal values": f"{LILLIEFORS / np.sqrt(count):.3f}",
        "excess kurtosis": _span(joined["kurtosis"]),
    }


def _span(values: np.ndarray) -> str:
    low, middle, high = np.nanquantile(values, [0.05, 0.5, 0.95])
    return f"median {middle:.3g} (5 % to 95 %: {low:.3g} to {high:.3g})"


def _shape(fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
    return fitted.kurtosis, fitted.distance


def _histograms(
    found: Sequence[Gradients],
    curve: Fit,
    label: str,
    fitted: str,
    limits: tuple[float, float] | None = None,
) -> tuple[Figure, Axes, Axes]:
    """A figure with five histograms of the first picture on top, with normal distributions.

    Returns it with the two axes below, for a line per picture.
    """
    one = found[0]
    figure = new_figure(FULL, 2.9)
    figure.set_layout_engine("constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.15))
    upper, lower = parts
    axes = upper.subplots(1, len(SHARES), sharey=False)
    for share, ax in zip(SHARES, axes, strict=True):
        i = round(share * (len(one.steps) - 1))
        values, mean, std = one.values[i], curve.mean[i], curve.std[i]
        # In units of 10^k, so that the ticks stay short.
        power = 0 if limits else int(np.floor(np.log10(5 * std))) if std > 0 else 0
        unit = 10.0**power
        low, high = limits or ((mean - 5 * std) / unit, (mean + 5 * std) / unit)
        ax.hist(values / unit, bins=50, range=(low, high), density=True, color="#9ecae1")
        x = np.linspace(low, high, 200)
        ax.plot(x, stats.norm(mean / unit, std / unit).pdf(x), color=COLOURS[1])
        ax.set_title(f"step {one.steps[i]}, D = {curve.distance[i]:.3f}", fontsize=6)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(f"$\\times\\,10^{{{power}}}$" if power else "", fontsize=6, labelpad=1)
    upper.supxlabel(f"{label} (blue: its values, red: {fitted})", fontsize=7)
    left, right = lower.subplots(1, 2)
    lines = [Line2D([], [], color=colour) for _, colour in zip(found, COLOURS, strict=False)]
    names = [each.prompt for each in found]
    lower.legend(lines, names, loc="outside upper center", ncols=len(names), frameon=False)
    return figure, left, right


def _plain_ticks(axes: Axes) -> None:
    """Plain numbers at the powers of ten of a logarithmic axis; of a short one also between."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 30 * low else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _around_zero(axes: Axes) -> tuple[float, float]:
    largest = max(0.1, *(abs(end) for end in axes.get_ylim()))
    return -largest, largest
