"""Which data a search is about, as every page names them."""

from __future__ import annotations

from typing import Any

from nas_agent_graph.text.terminal import Line, printable, wrapped


def data_lines(source: Any, width: int) -> list[Line]:
    """Name the data; a generated series in place of a real one is shouted."""
    if not isinstance(source, dict):
        return [Line("Data: unknown", "bold red")]
    name, kind = printable(source.get("name"), 60), printable(source.get("kind"), 20)
    checksum = printable(source.get("sha256", "?"), 64)[:12]
    lines = wrapped(f"Data: {name} ({kind}, sha256 {checksum}...)", width, indent=2)
    if source.get("notice"):
        shouted = f"!!! SYNTHETIC STAND-IN, NOT THE REAL DATA !!! {printable(source['notice'], 600)}"
        if kind != "synthetic":
            shouted = f"!!! {printable(source['notice'], 600)}"
        lines += wrapped(shouted, width, style="bold red", indent=4)
    return lines
