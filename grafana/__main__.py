"""Write the JSON of all dashboards: ``python -m grafana``."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.models import models_dashboard
from grafana.one_model import one_model_dashboard
from grafana.training import training_dashboard

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = {
    "models.json": models_dashboard,
    "one_model.json": one_model_dashboard,
    "training.json": training_dashboard,
}


def rendered(name: str) -> str:
    """Give the text of a dashboard's JSON file."""
    board = DASHBOARDS[name]().build()
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / name).write_text(rendered(name), encoding="utf-8")
        print(f"wrote grafana/{FOLDER.name}/{name}")
