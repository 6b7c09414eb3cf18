"""Make the README's pictures of a finished search: `python scripts/make_screenshots.py WORKSPACE`.

`leaderboard.png` is what `nas show` prints, `report.png` the top of `nas report`'s page. Needs Chromium
(`apt install chromium`) and Pillow, which the extra `dev` installs.
"""

from __future__ import annotations

import argparse
import html
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 92
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fff }}
pre {{ margin: 12px; padding: 16px 20px; border-radius: 8px; background: #1f2430; color: #d9dde6;
  font: 15px/20px "DejaVu Sans Mono", monospace }}
b {{ color: #8fd3a4 }}
</style><pre><b>$ nas show</b>
{text}</pre>"""
CHROMIUM = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
  --disable-background-networking --disable-component-update --disable-sync
  --force-device-scale-factor=1.25 --virtual-time-budget=5000"""


def nas(*words: str) -> str:
    """Return what a command prints."""
    command = [sys.executable, "-m", "nas_agent_graph.cli", *words]
    environment = os.environ | {"COLUMNS": str(COLUMNS)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def photograph(page: Path, picture: Path, width: int, height: int, chromium: str) -> None:
    """Render the first `height` pixels of a page, in 256 colours."""
    with tempfile.TemporaryDirectory() as profile:
        flags = [*CHROMIUM.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command = [chromium, *flags, f"--screenshot={picture.absolute()}", page.absolute().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--chromium", default="chromium", help="the browser's command")
    options = parser.parse_args()
    workspace = str(options.workspace.absolute())
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        text = nas("show", "--workspace", workspace)
        page.write_text(TERMINAL.format(text=html.escape(text)), encoding="utf-8")
        height = 20 * (len(text.splitlines()) + 1) + 56
        photograph(page, options.out / "leaderboard.png", 9 * COLUMNS + 60, height, options.chromium)
        nas("report", "--workspace", workspace, "--out", str(page))
        photograph(page, options.out / "report.png", 1200, 1180, options.chromium)


if __name__ == "__main__":
    main()
