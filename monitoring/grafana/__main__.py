"""Write the dashboards: `python -m monitoring.grafana`."""

from monitoring.grafana.files import FOLDER, written


def main() -> None:
    """Write all of them, and remove what nobody writes."""
    files = written()
    for name in {path.name for path in FOLDER.glob("*.json")} - files.keys():
        (FOLDER / name).unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
