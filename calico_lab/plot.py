"""Figures: DataFrames in, a matplotlib Figure out.

No figure enters pyplot's global state. No meaning hangs on colour alone: layers differ in marker as well, and a probe
without an answer says so in words. Text comes from the caller, who knows the language.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

__all__ = ["heat", "journey", "latency", "mtu_path", "sweep"]

Words = Callable[..., str]

_INK = "#1a1a1a"
_FAINT = "#bbbbbb"
_BAD = "#D55E00"
# Digits and Hangul alone: matplotlib's own font, which has the symbols, has no such weight and complains.
_BOLD: Mapping[str, Any] = {"fontfamily": "NanumGothic", "fontweight": "semibold"}
# Blue, green and vermilion of Okabe and Ito's palette (Color Universal Design), told apart by colour-blind readers.
_LAYERS: Mapping[str, Mapping[str, Any]] = {
    "underlay": {"color": "#0072B2", "marker": "o"},
    "overlay": {"color": "#009E73", "marker": "s"},
}

# How a packet fared at a hop: a mark beside the word, for its colour is not enough.
_FARES: Mapping[str, Mapping[str, Any]] = {
    "pass": {"color": "#0072B2", "marker": "o"},
    "seen": {"color": "#0072B2", "marker": "o"},
    "passed": {"color": "#0072B2", "marker": "o", "fillstyle": "none"},
    "astray": {"color": _BAD, "marker": "D"},
    "stop": {"color": _BAD, "marker": "X"},
    "dropped": {"color": _BAD, "marker": "X"},
    "unseen": {"color": _BAD, "marker": "X", "fillstyle": "none"},
    "unknown": {"color": _INK, "marker": "s", "fillstyle": "none"},
    "unreached": {"color": _FAINT, "marker": "."},
    "untold": {"color": _FAINT, "marker": "."},
}

_WIDTH_IN = 9.0
_MAX_PATHS = 4
_MAX_ROWS = 24
"""More than that is not read in a picture; the table beside it has all."""

_MAX_COLUMNS = 8

_LOG_FROM = 10
"""From this ratio of the slowest to the fastest median on, a linear axis squeezes the fast ones to a line."""


def mtu_path(hops: pd.DataFrame, measured: pd.DataFrame, words: Words) -> Figure:
    """MTU along each path, one panel a path, the smallest marked, and the largest packet that each layer carried.

    Parameters
    ----------
    hops : DataFrame
        ``path`` (str), ``position`` (int, order along the path), ``hop`` (str, a device or a piece of the fabric),
        ``place`` (str, node or fabric it belongs to), ``mtu_bytes`` (Int64, NA if not observed), ``layer``
        ("underlay" or "overlay"). Paths beyond the fourth are left out, and the figure says so.
    measured : DataFrame
        ``path``, ``layer`` as in `hops`, ``limit`` ("failed" if nothing was measured), ``passes_bytes`` (Int64, NA if
        no packet was answered), ``silent_bytes`` (Int64, packet that vanished without a word, else NA). A dashed line
        spans the hops of its layer.
    words : callable
        `calico_lab.page.Page.words`.
    """
    paths = list(hops.groupby("path", sort=False))
    shown = paths[:_MAX_PATHS]
    with _style():
        figure = _figure(0.4 + 2.4 * max(1, len(shown)))
        panels = figure.subplots(max(1, len(shown)), squeeze=False)[:, 0]
        for axes, (path, rows) in zip(panels, shown, strict=False):
            rows = rows.sort_values("position")
            _draw_path(axes, str(path), rows, words)
            _draw_measured(axes, rows["layer"].tolist(), measured[measured["path"] == path], words)
        if not shown:
            _draw_nothing(panels[0], words)
        _finish(figure, words)
        if len(paths) > len(shown):
            figure.supxlabel(words("plot.mtu_path.more", shown=len(shown), total=len(paths)), fontsize=9)
    return figure


def latency(pings: pd.DataFrame, words: Words) -> Figure:
    """Round-trip times of every pair of nodes and layer as distributions, and what was not answered.

    A box is the middle half of the replies with their median, its whiskers reach from the 5th to the 95th percentile,
    and each reply is a point. A lost request is a number beside it and never a time.

    Parameters
    ----------
    pings : DataFrame
        ``src``, ``dst`` (str, nodes), ``layer`` ("underlay" or "overlay"), ``seq`` (int), ``outcome`` ("reply",
        "no_answer" or "error"), ``time_ms`` (Float64, NA where no reply). Pairs beyond the 24th row are left out, and
        the figure says so.
    words : callable
        `calico_lab.page.Page.words`.
    """
    rows = list(pings.groupby(["src", "dst", "layer"], sort=False))
    shown = rows[:_MAX_ROWS]
    with _style():
        figure = _figure(1.0 + 0.5 * max(1, len(shown)))
        axes = figure.subplots()
        for row, ((_, _, layer), probes) in enumerate(shown):
            _draw_probes(axes, row, str(layer), probes, words)
        if shown:
            _scale_time(axes, [probes["time_ms"].dropna() for _, probes in shown], words)
            labels = [f"{src} → {dst}\n{words(f'layer.{layer}')}" for (src, dst, layer), _ in shown]
            axes.set_yticks(range(len(shown)), labels)
            axes.set_ylim(len(shown) - 0.5, -0.5)
        else:
            _draw_nothing(axes, words)
        _finish(figure, words)
        if len(rows) > len(shown):
            figure.supxlabel(words("plot.latency.more", shown=len(shown), total=len(rows)), fontsize=9)
    return figure


def journey(hops: pd.DataFrame, words: Words) -> Figure:
    """A probe's way there and back, hop below hop: what was predicted beside what was measured.

    Parameters
    ----------
    hops : DataFrame
        `calico_lab.journey.journey`.
    words : callable
        `calico_lab.page.Page.words`.
    """
    ways = list(hops.groupby("direction", sort=False))
    with _style():
        figure = _figure(1.0 + 0.34 * max(len(way) for _, way in ways))
        for axes, (direction, way) in zip(figure.subplots(1, len(ways), squeeze=False)[0], ways, strict=True):
            _draw_way(axes, way, words)
            axes.set_title(words(f"journey.direction.{direction}"), loc="left", fontsize=11)
            axes.tick_params(length=0, labelfontfamily=_fonts())
    return figure


def heat(cells: pd.DataFrame, words: Words, title: str, groups: Mapping[str, str] | None = None) -> Figure:
    """A table of numbers by shade. Each cell also says its number, so that nothing hangs on the shade.

    With more than 24 rows the numbers give way to a scale; a cell without a value still has its mark.

    Parameters
    ----------
    cells : DataFrame
        ``row``, ``column`` (str, in the order of their first cell), ``value`` (float, NaN where there is none: such a
        cell has no shade), ``mark`` (str, what the cell says). Pairs without a row stay blank. Columns beyond the
        eighth are left out, and the figure says so.
    words : callable
        `calico_lab.page.Page.words`.
    title : str
        What is shown, with its unit.
    groups : mapping, optional
        Group (a site) of each row and column, which then stand in the mapping's order, those of one group together.
        Lines part the groups, and each has its name at the far side.
    """
    names, columns = (_in_order(cells[name], groups) for name in ("row", "column"))
    shown = columns[:_MAX_COLUMNS]
    with _style():
        numbered = len(names) <= _MAX_ROWS
        figure = _figure(1.2 + (0.4 if numbered else 0.16) * max(1, len(names)))
        axes = figure.subplots()
        if names:
            image = _draw_cells(axes, cells[cells["column"].isin(shown)], names, shown, numbered=numbered)
            if not numbered:
                figure.colorbar(image, ax=axes, format=lambda value, _: f"{value:g}")
            if groups is not None:
                _draw_groups(axes, [groups[name] for name in shown], [groups[name] for name in names])
            axes.set_title(title, loc="left", fontsize=11)
        else:
            _draw_nothing(axes, words)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelfontfamily=_fonts())
        if len(columns) > len(shown):
            figure.supxlabel(words("plot.heat.more", shown=len(shown), total=len(columns)), fontsize=9)
    return figure


def sweep(frame: pd.DataFrame, words: Words, label: str) -> Figure:
    """Median round trip of each pair of nodes and layer over the values of a parameter.

    Parameters
    ----------
    frame : DataFrame
        ``value`` (number or str), ``src``, ``dst`` (str, nodes), ``layer`` ("underlay" or "overlay"), ``rtt_ms``
        (Float64, NA without a reply: marked at the foot of the figure).
    words : callable
        `calico_lab.page.Page.words`.
    label : str
        The parameter.
    """
    measured = frame.dropna(subset="layer")
    with _style():
        figure = _figure(4.0)
        axes = figure.subplots()
        if measured.empty:
            _draw_nothing(axes, words)
        else:
            _draw_sweep(axes, measured, words)
            axes.set_xlabel(label)
            axes.set_ylabel(words("plot.sweep.time"))
            axes.set_ylim(bottom=0)
        _finish(figure, words)
    return figure


# ---------------------------------------------------------------------- MTU


def _draw_path(axes: Axes, path: str, rows: pd.DataFrame, words: Words) -> None:
    at = list(range(len(rows)))
    mtu_bytes = rows["mtu_bytes"].astype("Float64").to_numpy(dtype=float, na_value=float("nan"))
    axes.step(at, mtu_bytes, where="mid", color=_FAINT, linewidth=2, zorder=1)
    smallest = rows["mtu_bytes"].min()
    floor = 1.0 if pd.isna(smallest) else float(smallest)
    for x, (value, layer) in enumerate(zip(rows["mtu_bytes"], rows["layer"], strict=True)):
        if pd.isna(value):
            axes.annotate(f"?\n{words('plot.mtu_path.unknown')}", (x, floor), ha="center", fontsize=9, color=_BAD)
            continue
        axes.plot(x, value, linestyle="none", markersize=7, zorder=3, **_LAYERS[layer])
        least = value == smallest
        label = f"{value}\n{words('plot.mtu_path.smallest')}" if least else str(value)
        axes.annotate(
            label,
            (x, value),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            **(_BOLD if least else {}),
        )
        if least:
            axes.plot(x, value, linestyle="none", marker="o", markersize=13, fillstyle="none", color=_BAD, zorder=2)
    # 1410, 1460 and 1500 decide whether a packet fits, beside 9001: only a logarithm shows both.
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.06, y=0.35)
    axes.set_xticks(at, [f"{hop}\n{place}" for hop, place in zip(rows["hop"], rows["place"], strict=True)], fontsize=9)
    axes.set_ylabel(words("plot.mtu_path.mtu"))
    axes.set_title(path, loc="left", fontsize=11)


def _draw_measured(axes: Axes, layers: list[str], measured: pd.DataFrame, words: Words) -> None:
    """The largest packet of each layer, from the first to the last of its hops; the title says the same in words."""
    said = []
    measured = measured[measured["limit"] != "failed"]
    columns = (measured[name] for name in ("layer", "passes_bytes", "silent_bytes"))
    for layer, passes, silent in zip(*columns, strict=True):
        name = words(f"layer.{layer}")
        if pd.isna(passes):
            said.append(words("plot.mtu_path.nothing", layer=name))
            continue
        at = [place for place, own in enumerate(layers) if own == layer]
        axes.hlines(passes, at[0] - 0.3, at[-1] + 0.3, color=_LAYERS[layer]["color"], linestyle="--", zorder=1)
        said.append(words("plot.mtu_path.passes", layer=name, passes=passes))
        if not pd.isna(silent):
            said.append(words("plot.mtu_path.silent", silent=silent))
    if said:
        axes.set_title(words("plot.mtu_path.measured", said=" · ".join(said)), loc="right", fontsize=9)


# ---------------------------------------------------------------------- latency


def _draw_probes(axes: Axes, row: int, layer: str, probes: pd.DataFrame, words: Words) -> None:
    times = probes["time_ms"].dropna()
    count = {"replies": len(times), "sent": len(probes)}
    if times.empty:
        every_error = bool((probes["outcome"] == "error").all())
        text = words(f"plot.latency.{'error' if every_error else 'no_reply'}", **count)
        axes.text(0.01, row, text, transform=axes.get_yaxis_transform(), va="center", color=_BAD)
        return
    color = _LAYERS[layer]["color"]
    least, quarter, median, three_quarters, most = times.astype(float).quantile([0.05, 0.25, 0.5, 0.75, 0.95])
    axes.plot(times, [row] * len(times), linestyle="none", markersize=4, alpha=0.3, **_LAYERS[layer])
    axes.hlines(row, least, most, color=color)
    axes.vlines([least, most], row - 0.12, row + 0.12, color=color)
    axes.barh(row, three_quarters - quarter, 0.5, quarter, facecolor="white", edgecolor=color, alpha=0.8, zorder=2)
    axes.vlines(median, row - 0.32, row + 0.32, color=_INK, linewidth=2, zorder=3)
    beside: Mapping[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 9}
    lost = len(probes) - len(times)
    said = words("plot.latency.median", time_ms=f"{median:.3g}", replies=len(times))
    axes.text(1.02, row, said, va="bottom" if lost else "center", **beside)
    if lost:
        said = words("plot.latency.lost", lost=lost, sent=len(probes))
        axes.text(1.02, row, said, va="top", color=_BAD, **beside)


def _scale_time(axes: Axes, times: list[pd.Series[Any]], words: Words) -> None:
    medians = [float(values.median()) for values in times if not values.empty]
    axes.set_xlabel(words("plot.latency.time"))
    if not medians:
        axes.set_xticks([])
        return
    if max(medians) >= _LOG_FROM * min(medians):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda time_ms, _: f"{time_ms:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, 1.05 * max(float(values.max()) for values in times if not values.empty))
    axes.grid(axis="x", color="#e5e5e5")


# ---------------------------------------------------------------------- journey


def _draw_way(axes: Axes, way: pd.DataFrame, words: Words) -> None:
    measured = ["untold" if pd.isna(how) else how for how in way["measured"]]
    fares = {"predicted": list(way["predicted"]), "measured": measured}
    for x, (column, each) in enumerate(fares.items()):
        for y, (fare, packets) in enumerate(zip(each, way["packets"], strict=True)):
            # That a packet was seen behind a hop says that it passed, and not how many did.
            how = "passed" if fare == "seen" and pd.isna(packets) else fare
            axes.plot(x, y, linestyle="none", markersize=7, **_FARES[how])
            said = words(f"journey.fare.{how}", packets="" if pd.isna(packets) else packets)
            axes.text(x + 0.1, y, said, va="center", fontsize=9, color=_BAD if _FARES[how]["color"] == _BAD else _INK)
        axes.text(x, -0.9, words(f"column.{column}"), ha="center", fontsize=9, color=_INK)
    labels = [f"{words(f'journey.hop.{hop}')}  {place}" for hop, place in zip(way["hop"], way["place"], strict=True)]
    axes.set_yticks(range(len(way)), labels, fontsize=9)
    axes.set_ylim(len(way) - 0.5, -1.4)
    axes.set_xlim(-0.3, 2.0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.hlines([y + 0.5 for y in range(len(way) - 1)], -0.3, 2.0, color="#eeeeee", linewidth=0.8)


# ---------------------------------------------------------------------- several scenarios


def _in_order(names: pd.Series[str], groups: Mapping[str, str] | None) -> list[str]:
    """Each name once."""
    once = dict.fromkeys(names)
    return list(once) if groups is None else [name for name in groups if name in once]


def _draw_cells(axes: Axes, cells: pd.DataFrame, names: list[str], columns: list[str], *, numbered: bool) -> AxesImage:
    values = cells.pivot(index="row", columns="column", values="value").reindex(index=names, columns=columns)
    # MTUs and round trips of far and near clouds differ by orders of magnitude; less than one is no contrast.
    shades = np.ma.masked_less_equal(np.ma.masked_invalid(values.astype(float).to_numpy()), 0)
    least = shades.min() if shades.count() else 1.0
    scale = LogNorm(least / 2, max(10 * least, shades.max()) if shades.count() else 10.0)
    image = axes.imshow(shades, cmap="Blues", aspect="auto", alpha=0.6, norm=scale)
    size = 9 if numbered else 7
    for row, column, value, mark in zip(*(cells[name] for name in ("row", "column", "value", "mark")), strict=True):
        if numbered or pd.isna(value):
            place = columns.index(column), names.index(row)
            axes.text(*place, mark, ha="center", va="center", fontsize=size, color=_BAD if pd.isna(value) else _INK)
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    return image


def _draw_groups(axes: Axes, of_columns: list[str], of_rows: list[str]) -> None:
    """Lines between groups, and their names at the far sides."""
    for groups, line, far in (
        (of_columns, axes.axvline, axes.secondary_xaxis("top").xaxis),
        (of_rows, axes.axhline, axes.secondary_yaxis("right").yaxis),
    ):
        places = {group: [at for at, own in enumerate(groups) if own == group] for group in dict.fromkeys(groups)}
        for own in list(places.values())[1:]:
            line(own[0] - 0.5, color=_INK, linewidth=1.5)
        far.set_ticks([sum(own) / len(own) for own in places.values()], list(places), fontsize=9)
        far.axes.tick_params(length=0, labelfontfamily=_fonts())
        far.axes.spines[:].set_visible(False)


def _draw_sweep(axes: Axes, frame: pd.DataFrame, words: Words) -> None:
    numeric = pd.api.types.is_numeric_dtype(frame["value"].infer_objects())
    values = list(dict.fromkeys(frame["value"]))
    at = {value: float(value) if numeric else float(place) for place, value in enumerate(values)}
    for (_, _, layer), pairs in frame.groupby(["src", "dst", "layer"], sort=False):
        answered = pairs.dropna(subset="rtt_ms")
        places = [at[value] for value in answered["value"]]
        axes.plot(places, answered["rtt_ms"].astype(float), markersize=7, alpha=0.7, **_LAYERS[str(layer)])
        for value in pairs.loc[pairs["rtt_ms"].isna(), "value"]:
            axes.text(
                at[value],
                0.02,
                words("plot.sweep.no_reply"),
                transform=axes.get_xaxis_transform(),
                ha="center",
                fontsize=9,
                color=_BAD,
            )
    axes.set_xticks([at[value] for value in values], [str(value) for value in values])
    axes.grid(axis="y", color="#e5e5e5")


# ---------------------------------------------------------------------- both


def _figure(height_in: float) -> Figure:
    layout = ConstrainedLayoutEngine(h_pad=0.1, hspace=0.03)
    return Figure(figsize=(_WIDTH_IN, height_in), layout=layout)


def _draw_nothing(axes: Axes, words: Words) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words("table.empty"), ha="center", va="center", transform=axes.transAxes)


def _finish(figure: Figure, words: Words) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        # Ticks that come into being when the figure is drawn do not know the settings it was built with.
        axes.tick_params(length=0, labelfontfamily=_fonts())
    handles = [
        Line2D([], [], linestyle="none", markersize=7, label=words(f"layer.{layer}"), **look)
        for layer, look in _LAYERS.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=9)


@contextmanager
def _style() -> Iterator[None]:
    """Settings of our figures, for as long as one is built; a caller's own settings stay as they are."""
    with mpl.rc_context(
        {
            "font.family": _fonts(),
            "text.parse_math": False,  # a name may hold a "$"
            "axes.unicode_minus": False,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
        }
    ):
        yield


@cache
def _fonts() -> list[str]:
    """Register NanumGothic, which koreanize-matplotlib carries; matplotlib's own font has the symbols it lacks.

    The package itself is not imported: that sets the font of every figure in the process, and uses distutils, which
    Python 3.12 no longer has.
    """
    spec = importlib.util.find_spec("koreanize_matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'koreanize_matplotlib'", name="koreanize_matplotlib")
    fonts = Path(spec.submodule_search_locations[0], "fonts")
    for name in ("NanumGothic.ttf", "NanumGothicBold.ttf"):
        font_manager.fontManager.addfont(str(fonts / name))
    return ["NanumGothic", "DejaVu Sans"]
