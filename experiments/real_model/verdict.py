"""What a change is worth: intervals over countries, the cut chosen, and one plain sentence."""

import numpy as np
import xarray as xr

from truncated_weights.experiments.real_model.settings import RealModel
from truncated_weights.training.records import Records
from truncated_weights.truncation.search import statistics

FULL = "full"
ENDS = ("change", "low", "high")
# A control that gains less than this share of what accuracy gains, by the far ends of both
# intervals, does not account for it.
SHARE = 0.5


def chosen(records: Records) -> str:
    """The cut that is most often right where cuts are chosen; of equal ones that of least loss."""
    of = records.answers.sel(wording="asked", model=_cuts(records))
    here = of.isel(item=np.flatnonzero(records.about.chooses.values)).mean("item")
    order = np.lexsort((here.loss.values, -here.accuracy.values))
    return str(here.model.values[order[0]])


def _cuts(records: Records) -> list[str]:
    return [model for model in map(str, records.answers.model.values) if model != FULL]


def changes(config: RealModel, records: Records) -> xr.Dataset:
    """Means over the cities that are told, [model, wording], of every variable of `answers`.

    With NAME_change, the difference to the full model, and its 95 % interval NAME_low and
    NAME_high from resampling countries: the cities of one are right or wrong together.
    """
    answers = records.answers
    told = np.flatnonzero(~records.about.chooses.values.astype(bool))
    countries = records.about.country.values[told]
    order = dict.fromkeys(countries)
    places = [
        [i for i, c in zip(told, countries, strict=True) if c == country] for country in order
    ]
    most = max(map(len, places))
    weights = np.array([[1.0] * len(p) + [0.0] * (most - len(p)) for p in places])
    padded = np.array([p + [p[0]] * (most - len(p)) for p in places])
    found: dict[str, xr.DataArray] = {}
    for variable, values in answers.data_vars.items():
        ordered = values.transpose("model", "wording", "item")
        difference = ordered - ordered.sel(model=FULL)
        flat = difference.values.reshape(-1, difference.sizes["item"])[:, padded]
        parts = statistics.paired_bootstrap(flat, weights, seed=config.seed, samples=config.samples)
        found[str(variable)] = ordered.isel(item=told).mean("item")
        for end, part in zip(ENDS, parts, strict=True):
            shape = found[str(variable)].copy(data=part.reshape(found[str(variable)].shape))
            found[f"{variable}_{end}"] = shape
    return xr.Dataset(found).assign_attrs(items=len(told))


def sentence(records: Records) -> str:
    """Whether the chosen cut uncovers answers, moves mass to the kind of word, or neither is told.

    It uncovers answers if the choice among the countries or the reworded prompt gains clearly (two
    looks, each wrong by chance once in forty); it moves mass if both are shown to gain less than
    SHARE of what accuracy gains. Where the controls are too wide for either, that is said.
    """
    best = chosen(records)
    found = records.changes.sel(model=best)
    asked, again = found.sel(wording="asked"), found.sel(wording="reworded")
    head = f"{best}, chosen on other countries: accuracy {_told(asked, 'accuracy')} points"
    low = float(asked.accuracy_low)
    if not low > 0:
        return f"{head}, which cannot be told from doing nothing."
    controls = {
        "the choice among the countries": (asked, "closed"),
        "the reworded prompt": (again, "accuracy"),
    }
    beside = "; ".join(f"{what} {_told(*where)}" for what, where in controls.items())
    more = [w for w, (row, what) in controls.items() if float(row[f"{what}_low"]) > 0]
    if more:
        said = f"{' and '.join(more)} gain too: the cut uncovers answers."
    elif all(float(row[f"{what}_high"]) < SHARE * low for row, what in controls.values()):
        said = (
            "both less than half of that gain: mass moves to the kind of word that was asked for, "
            "and hardly any knowledge comes out."
        )
    else:
        said = "too wide to tell wording from knowledge: ask more countries."
    return f"{head}. Beside it {beside}; {said}"


def _told(row: xr.Dataset, variable: str) -> str:
    change, low, high = (100 * float(row[f"{variable}_{end}"]) for end in ENDS)
    return f"{change:+.1f} [{low:.1f}, {high:.1f}]"
