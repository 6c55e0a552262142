"""Round trips of a recording as distributions: the overlay of each pair of nodes beside its underlay.

The underlay that is compared is pinged at the address that the tunnel's packets go to. A request without a reply is a
loss and no time: it counts in the loss rate, and in no median.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from .calico import outer_way
from .tables import Tables, rows

__all__ = ["LEVEL", "compared", "median_difference", "medians", "summary", "wilson"]

LEVEL = 0.95
"""Of all intervals."""

_RESAMPLES = 2000
_SEED = 1
"""Any will do; the same one makes the same report of the same recording."""


def compared(tables: Tables) -> pd.DataFrame:
    """Rows of `Tables.replies`: from a node to a pod, and to the address by which the tunnel's packets get there."""
    return _of_both_layers(tables, tables.replies, "src", "dst")


def _of_both_layers(tables: Tables, frame: pd.DataFrame, source: str, target: str) -> pd.DataFrame:
    sites = dict(zip(tables.nodes["name"], tables.nodes["site"], strict=True))
    cni = tables.scenario.cni
    ways = [
        outer_way(cni, one_site=sites[one] == sites[other])
        for one, other in zip(frame[source], frame[target], strict=True)
    ]
    both = frame[(frame["via"] == "node") | (frame["via"] == pd.Series(ways, index=frame.index, dtype="str"))]
    return both.sort_values([source, target, "layer"], ascending=[True, True, False], kind="stable")


def summary(tables: Tables) -> pd.DataFrame:
    """One row a pair of nodes and layer.

    ================ ======= ==== ==================================================================
    column           type    unit meaning
    ================ ======= ==== ==================================================================
    src, dst         str          nodes
    layer            str          underlay or overlay
    sent             Int64        requests; NA where none could be sent
    lost             Int64        of these, without a reply
    loss_percent     Float64
    loss_low, _high  Float64      Wilson's interval of the loss rate, in percent
    min_ms           Float64 ms   of the replies, as the next two; NA where there are none
    median_ms        Float64 ms
    p95_ms           Float64 ms   95 % of the replies were as fast or faster
    overhead_ms      Float64 ms   overlay: its median less the underlay's; NA where either has no replies
    overhead_low_ms  Float64 ms   bounds of its bootstrap interval (see `median_difference`)
    overhead_high_ms Float64 ms
    ================ ======= ==== ==================================================================
    """
    columns = {"src": "str", "dst": "str", "layer": "str", "sent": "Int64", "lost": "Int64"}
    columns |= dict.fromkeys(("loss_percent", "loss_low", "loss_high", "min_ms", "median_ms", "p95_ms"), "Float64")
    columns |= dict.fromkeys(("overhead_ms", "overhead_low_ms", "overhead_high_ms"), "Float64")
    return pd.DataFrame(list(_summaries(tables)), columns=list(columns)).astype(columns)


def _summaries(tables: Tables) -> Iterator[dict[str, Any]]:
    replies = compared(tables).dropna(subset="time_ms")
    times = {key: own.to_numpy(dtype=float) for key, own in replies.groupby(["src", "dst", "layer"])["time_ms"]}
    pings = _of_both_layers(tables, tables.pings, "source", "target")
    for ping in rows(pings):
        key = ping.source, ping.target, ping.layer
        row: dict[str, Any] = dict(zip(("src", "dst", "layer"), key, strict=True))
        if not pd.isna(ping.transmitted) and ping.transmitted > 0:
            sent, lost = int(ping.transmitted), int(ping.transmitted - ping.received)
            low, high = wilson(lost, sent)
            row |= {"sent": sent, "lost": lost, "loss_percent": 100 * lost / sent}
            row |= {"loss_low": 100 * low, "loss_high": 100 * high}
        own, under = times.get(key), times.get((ping.source, ping.target, "underlay"))
        if own is not None:
            row |= {"min_ms": own.min(), "median_ms": np.median(own), "p95_ms": np.quantile(own, 0.95)}
        if own is not None and under is not None and ping.layer == "overlay":
            names = ("overhead_ms", "overhead_low_ms", "overhead_high_ms")
            row |= dict(zip(names, median_difference(own, under), strict=True))
        yield row


def medians(tables: Tables) -> Iterator[tuple[str, str, float | None, str]]:
    """Of every pair of nodes whose overlay was probed: source, target, median in ms, and reply, no-reply or error."""
    replies = tables.replies[tables.replies["via"] == "node"]
    for (src, dst), probes in replies.groupby(["src", "dst"], sort=False):
        if probes["time_ms"].notna().any():
            yield str(src), str(dst), float(probes["time_ms"].median()), "reply"
        else:
            yield str(src), str(dst), None, "error" if (probes["outcome"] == "error").all() else "no-reply"


def median_difference(these: np.ndarray[Any, Any], those: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """The median of `these` less that of `those`, with the bounds of its percentile bootstrap interval.

    Both samples are drawn again with replacement, independently, `_RESAMPLES` times; the interval holds the middle 95 %
    of the differences (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Pings of one moment
    are alike, so that it is narrower than one of another day would be.
    """
    rng = np.random.default_rng(_SEED)
    again = [np.median(rng.choice(sample, (_RESAMPLES, len(sample))), axis=1) for sample in (these, those)]
    low, high = np.quantile(again[0] - again[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(np.median(these) - np.median(those)), float(low), float(high)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval of a rate, which also says what none of a few means (Wilson 1927, JASA 22, 209-212)."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    rate, spread = hits / trials, z * z / trials
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(rate * (1 - rate) / trials + spread / trials / 4)
    # Of none and of all, a bound is 0 or 1 but for the last digits.
    return round(middle - half, 12), round(middle + half, 12)
