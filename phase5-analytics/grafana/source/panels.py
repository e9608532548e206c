"""The few kinds of panel that the dashboards use, so that all of them look and behave alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# The datasource of provisioning/datasources.
PROMETHEUS = DataSourceRef("prometheus", "prometheus")
TAG = "fraud-platform"
FULL_WIDTH = 24
NO_DATA = "no data"

# A colour, and the value from which it applies; None is the lowest.
Steps = Sequence[tuple[str, float | None]]
GREEN: Steps = [("green", None)]


def dashboard(title: str, uid: str, description: str) -> Dashboard:
    """An empty dashboard with what all share: refresh, a common cursor, links to the others and to the alerts."""
    return (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .refresh("10s")
        .time("now-30m", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            DashboardLink("Other dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .keep_time(True)
        )
        .link(
            DashboardLink("Alerts").type(DashboardLinkType.LINK).icon("bell").url("/alerting/list").target_blank(False)
        )
    )


def number(
    title: str,
    description: str,
    expr: str,
    unit: str = "short",
    steps: Steps = GREEN,
    *,
    decimals: int | None = None,
    texts: Mapping[str, str] | None = None,
    width: int = 4,
) -> stat.Panel:
    """The value now, coloured by its thresholds; "no data" where there is none now.

    A query over a range would go on showing the last value for as long as the range is.

    Args:
        texts: texts to show instead of certain values.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .thresholds(_thresholds(steps))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .no_value(NO_DATA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expr, title).instant())
        .span(width)
        .height(4)
    )
    if decimals is not None:
        panel.decimals(decimals)
    if texts:
        panel.mappings([ValueMap({value: ValueMappingResult(text=text) for value, text in texts.items()})])
    return panel


def lines(
    title: str,
    description: str,
    queries: Mapping[str, str],
    unit: str = "short",
    steps: Steps | None = None,
    *,
    stacked: bool = False,
    maximum: float | None = None,
    width: int = 8,
) -> timeseries.Panel:
    """Lines over time.

    Args:
        queries: PromQL by the name of the line (label names in {{ }}).
        steps: thresholds, drawn as lines.
        stacked: draw the lines on top of each other, as parts of a whole.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .no_value(NO_DATA)
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["last", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .span(width)
        .height(8)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if maximum is not None:
        panel.max(maximum)
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    for position, (legend, expr) in enumerate(queries.items()):
        panel.with_target(_query(expr, legend).ref_id(chr(ord("A") + position)))
    return panel


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers in a table: its query, and how they are shown."""

    expr: str
    unit: str = "short"
    decimals: int = 0


def rows(
    title: str, description: str, keys: Mapping[str, str], columns: Mapping[str, Column], height: int = 9
) -> table.Panel:
    """A table of the values now, with a row for each combination of labels.

    Args:
        keys: the headings by the name of the label, in order; the rows are sorted by the first, descending.
        columns: the columns of numbers by heading, after those of the labels.
    """
    letters = {chr(ord("A") + position): heading for position, heading in enumerate(columns)}
    headings = dict(keys) | {f"Value #{letter}": heading for letter, heading in letters.items()}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit("short")
        .span(FULL_WIDTH)
        .height(height)
        .with_transformation(DataTransformerConfig("merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                "organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: position for position, name in enumerate(headings)},
                    "renameByName": headings,
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(next(iter(keys.values()))).desc(True)])
    )
    for letter, heading in letters.items():
        column = columns[heading]
        query = _query(f"sum by ({', '.join(keys)}) ({column.expr})", heading)
        panel.with_target(query.instant().format(PromQueryFormat.TABLE).ref_id(letter))
        shown = [DynamicConfigValue("unit", column.unit), DynamicConfigValue("decimals", column.decimals)]
        panel.override_by_name(heading, shown)
    return panel


def _query(expr: str, legend: str) -> Dataquery:
    return Dataquery().datasource(PROMETHEUS).expr(expr).legend_format(legend).range().ref_id("A")


def _thresholds(steps: Steps) -> ThresholdsConfig:
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for color, value in steps])
    )
