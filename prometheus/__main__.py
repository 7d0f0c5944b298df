"""Write the YAML of all rules: ``python -m prometheus``."""

from pathlib import Path

from prometheus import drift, serving

FOLDER = Path(__file__).parent / "rules"
FILES = {"drift.yml": drift.FILE, "serving.yml": serving.FILE}

if __name__ == "__main__":
    for name, file in FILES.items():
        (FOLDER / name).write_text(file.rendered(), encoding="utf-8")
        print(f"wrote prometheus/{FOLDER.name}/{name}")
