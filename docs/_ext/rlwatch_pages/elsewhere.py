"""What lies elsewhere in the repository and belongs to the site: measurements and examples."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

REPORTS = ("README.md", "detection.md", "false_alarms.md", "matrix.md", "gym/RESULTS.md")
_LANGUAGES = {".py": "python", ".sh": "bash"}


def pages() -> dict[str, str]:
    """File -> Markdown."""
    found = {f"benchmarks/{name}": _stepwise((ROOT / "benchmarks" / name).read_text("utf-8")) for name in REPORTS}
    examples = sorted(file for file in (ROOT / "examples").iterdir() if file.suffix in _LANGUAGES)
    for file in examples:
        language = _LANGUAGES[file.suffix]
        text = f"# examples/{file.name}\n\n````{language}\n{file.read_text(encoding='utf-8')}````\n"
        found[f"examples/{file.stem}.md"] = text
    listed = "\n".join(f"examples/{file.stem}" for file in examples)
    head = "# Examples\n\nWhole programs, in the repository's `examples/`."
    found["examples.md"] = f"{head}\n\n```{{toctree}}\n{listed}\n```\n"
    return found


def _stepwise(text: str) -> str:
    """Headings of the third level as of the second, where there is none of the second."""
    return text if "\n## " in text else text.replace("\n### ", "\n## ")
