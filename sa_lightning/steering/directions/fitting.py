"""From the states of pairs to directions, with what is to be said about them."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from sa_lightning.steering.directions.paired import coordinates, fit_directions, fit_directions_from_sums
from sa_lightning.steering.directions.separability import cross_validated, held_out
from sa_lightning.steering.directions.states import PairStates
from sa_lightning.steering.typed import floats, norm_of

Statistics = dict[str, list[float]]


def fit_pairs(
    states: PairStates, method: str = "principal", layers: Sequence[int] | None = None
) -> tuple[Float[Tensor, "layers d_model"], Statistics]:
    """Fit one unit vector per layer, and describe how well each layer tells the two sides apart.

    Args:
        states: Of all pairs; where some are only summed, those that were kept are held out for the description,
            and counted in for the direction.
        method: A name in `DIRECTIONS`.
        layers: Which layers the states are of; 0, 1, … if not set.

    Returns:
        Directions, as from `fit_directions`, and per layer: `layers`; `activation_norm`, mean norm of the states of
        both sides; `difference_norm`, norm of the mean difference; `separation`, the fraction of pairs whose safe state
        lies further along the direction than its unsafe one (0.5 is chance, ties count half; in sample); `safe_mean`
        and `unsafe_mean`, mean coordinates along the direction; `auroc` and `gap`, on pairs that the direction was not
        fitted on (`cross_validated`; NaN with a single pair), and `held_out`, how many.
    """
    sums = states.moments(second=states.others is not None and method != "mean")
    if states.others is None:
        directions = fit_directions(states.safe, states.unsafe, method, layers)
        areas, gaps = cross_validated(states.safe, states.unsafe, method)
    else:
        directions = fit_directions_from_sums(sums, method, layers)
        areas, gaps = held_out(states.safe, states.unsafe, fit_directions_from_sums(states.others, method))
    means = [((side / sums.count) * directions.double()).sum(-1) for side in (sums.safe, sums.unsafe)]
    ahead = coordinates(states.safe, directions) - coordinates(states.unsafe, directions)
    return directions, {
        "layers": list(range(len(directions)) if layers is None else layers),
        "activation_norm": floats(sums.norms / (2 * sums.count)),
        "difference_norm": floats(norm_of((sums.safe - sums.unsafe) / sums.count)),
        "separation": floats(((ahead > 0).double() + 0.5 * (ahead == 0).double()).mean(0)),
        "safe_mean": floats(means[0]),
        "unsafe_mean": floats(means[1]),
        "held_out": [len(states.safe)] * len(directions),
        "auroc": floats(areas),
        "gap": floats(gaps),
    }
