"""What all panels have in common: data source, colours, sizes, and how a table is put together.

Colours are those of Okabe and Ito, which people with any kind of colour blindness tell apart;
where a panel has more lines than that, or lines nobody knows beforehand, they are shades of one
colour, and the legend and the tooltip tell them apart. No state is shown by colour alone.

A table has at most two queries, each a union of records that are told apart by the label
``column``. Grafana's transformation *Labels to fields* makes a column of each, and *Merge* makes
rows of what shares all other labels:

>>> print(column("Replicas", "model:keras_replicas:count"))
label_replace(model:keras_replicas:count, "column", "Replicas", "", "")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from prometheus.definitions import ALARMS

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#8C8C8C"

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "otel_drift"
POINTS = 240
"""Of a graph: one each 15 s in an hour. More would cost Prometheus time and show nothing more."""
DEVIATIONS = "suffix: σ"  # noqa: RUF001
"""Unit of what is measured in standard deviations."""
ALERTS = "|".join(alarm.name for alarm in ALARMS)

Panel = TypeVar("Panel", bound=Any)


# Queries


def lines(expr: str, legend: str, *, ref_id: str = "A", exemplars: bool = False) -> Any:
    """Make a query over the time range."""
    query = prometheus.Dataquery().expr(expr).range().legend_format(legend).ref_id(ref_id)
    return query.exemplar(exemplars)


def now(expr: str, legend: str = "", *, ref_id: str = "A") -> Any:
    """Make a query at the end of the time range."""
    query = prometheus.Dataquery().expr(expr).instant().legend_format(legend).ref_id(ref_id)
    return query.format(PromQueryFormat.TIME_SERIES)


def buckets(expr: str, *, exemplars: bool = False) -> Any:
    """Make the query of a heatmap from a histogram's buckets."""
    return lines(expr, "{{le}}", exemplars=exemplars).format(PromQueryFormat.HEATMAP)


def column(name: str, expr: str) -> str:
    """Mark an expression as one column of a table."""
    return f'label_replace({expr}, "column", "{name}", "", "")'


def columns(expressions: Mapping[str, str]) -> str:
    """Put the columns of a table into one query.

    Parameters
    ----------
    expressions
        By column name; their series differ in the labels of a row only.
    """
    return "\nor ".join(column(name, expr) for name, expr in expressions.items())


# Panels


def _placed(panel: Panel, title: str, description: str, width: int, height: int) -> Panel:
    return (
        panel.title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(width)
        .height(height)
    )


def number(title: str, description: str, query: Any, *, width: int = 4) -> stat.Panel:
    """Show one number, as it is at the end of the time range."""
    panel = _placed(stat.Panel(), title, description, width, 4).with_target(query)
    return (
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .color_scheme(fixed(BLUE))
        .no_value("No data")
    )


def graph(
    title: str, description: str, *queries: Any, width: int = 12, height: int = 8, unit: str
) -> timeseries.Panel:
    """Show lines over time."""
    panel = _placed(timeseries.Panel(), title, description, width, height).targets(list(queries))
    return (
        panel.unit(unit)
        .max_data_points(POINTS)
        .line_width(2)
        .fill_opacity(0)
        .show_points(VisibilityMode.NEVER)
        .color_scheme(shades())
        .legend(_legend())
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
        .no_value("No data")
    )


def grid(
    title: str, description: str, *queries: Any, width: int = 24, height: int = 10
) -> table.Panel:
    """Show a table made of queries by `columns`."""
    panel = _placed(table.Panel(), title, description, width, height).targets(list(queries))
    options = {"mode": "columns", "valueLabel": "column"}
    return (
        panel.with_transformation(DataTransformerConfig("labelsToFields", options=options))
        .with_transformation(DataTransformerConfig("merge", options={}))
        .color_scheme(fixed(BLUE))
        .no_value("-")
    )


def in_order(panel: table.Panel, names: Mapping[str, str]) -> table.Panel:
    """Order and name the columns of a table.

    Parameters
    ----------
    panel
        The table.
    names
        What each column is to be called, by label or column name, in order.
    """
    options = {
        "excludeByName": {"Time": True},
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": {name: shown for name, shown in names.items() if name != shown},
    }
    return panel.with_transformation(DataTransformerConfig("organize", options=options))


def density(title: str, description: str, query: Any, *, width: int = 12) -> heatmap.Panel:
    """Show a histogram over time."""
    panel = _placed(heatmap.Panel(), title, description, width, 8).with_target(query)
    # Viridis rises in lightness all the way, so it can be read without colours.
    scheme = heatmap.HeatmapColorOptions().scheme("Viridis").steps(64)
    panel = panel.color(scheme).hide_legend().show_tooltip().max_data_points(POINTS)
    return panel.no_value("No data")


def bars(title: str, description: str, query: Any, *, height: int = 6) -> statetimeline.Panel:
    """Show for each series from when to when it is there."""
    panel = _placed(statetimeline.Panel(), title, description, 24, height).with_target(query)
    return (
        panel.show_value(VisibilityMode.NEVER)
        .max_data_points(POINTS)
        .row_height(0.8)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(False).display_mode(LegendDisplayMode.HIDDEN))
        .color_scheme(fixed(VERMILLION))
    )


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
    return legend.placement(LegendPlacement.BOTTOM)


# Colours


def fixed(colour: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(colour)


def shades(colour: str = BLUE) -> dashboard.FieldColor:
    """Colour lines whose number and names nobody knows: light to dark, readable in grey."""
    return dashboard.FieldColor().mode(FieldColorModeId.SHADES).fixed_color(colour)


def coloured(panel: Panel, colours: Mapping[str, str], dashed: Sequence[str] = ()) -> Panel:
    """Give known lines their colours, and dashes to some of them."""
    for name, colour in colours.items():
        properties = [option("color", {"mode": "fixed", "fixedColor": colour})]
        if name in dashed:
            properties.append(option("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}))
        panel = panel.override_by_name(name, properties)
    return panel


def limit(panel: timeseries.Panel, value: float) -> timeseries.Panel:
    """Draw a dashed line at a value that matters."""
    steps = [Threshold(value=None, color=BLUE), Threshold(value=value, color=VERMILLION)]
    style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds(steps)).thresholds_style(style)


def thresholds(steps: list[Threshold]) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def worded(words: Mapping[float, tuple[str, str]], absent: str) -> list[ValueMapping]:
    """Show words for values.

    Parameters
    ----------
    words
        Text and colour by value.
    absent
        Text where there is no value.
    """
    results = {
        f"{value:g}": ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    nothing = ValueMappingResult(text=absent, color=GREY, index=len(words))
    special = DashboardSpecialValueMapOptions(SpecialValueMatch.NULL_AND_NAN, nothing)
    return [ValueMap(results), SpecialValueMap(special)]


def option(name: str, value: Any) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=name, value=value)


# Dashboards


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """Begin a dashboard: links to the others, and the choice of a data source."""
    others = dashboard.DashboardLink("otel_drift").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, "keras"])
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(others.as_dropdown(True).keep_time(True).include_vars(True))
        .with_variable(source)
    )


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Make a variable whose values a query finds."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    )


def several(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Make a variable that takes several values; all unless the reader chooses."""
    every = VariableOption(selected=True, text="All", value="$__all")
    return choice(name, label, query).multi(True).include_all(True).current(every)


def listed(name: str, label: str, values: Sequence[str], current: str) -> dashboard.CustomVariable:
    """Make a variable whose values are known."""
    options = [
        VariableOption(selected=value == current, text=value, value=value) for value in values
    ]
    return (
        dashboard.CustomVariable(name)
        .label(label)
        .values(",".join(values))
        .options(options)
        .current(VariableOption(selected=True, text=current, value=current))
    )


class Alerts(Builder[AnnotationQuery]):
    """Mark on all graphs from when to when alerts were firing.

    Parameters
    ----------
    selector
        More matchers of the labels of ``ALERTS``, beside state and name.
    """

    def __init__(self, selector: str = "") -> None:
        self.expr = f'ALERTS{{alertstate="firing",alertname=~"{ALERTS}"{selector}}}'

    def build(self) -> AnnotationQuery:
        """Build the annotation."""
        return _Marks(
            name="Alerts", datasource=DATASOURCE, icon_color=VERMILLION, expr=self.expr, hide=False
        )


class _Marks(AnnotationQuery):
    def to_json(self) -> dict[str, object]:
        """Add what Grafana's Prometheus data source reads and the schema of annotations lacks."""
        return super().to_json() | {
            "step": "15s",
            "titleFormat": "{{alertname}}",
            "textFormat": "{{keras_model_name}} / {{keras_model_output}}",
            "tagKeys": "severity",
        }
