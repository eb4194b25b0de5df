#!/usr/bin/env bash
# Renders the three recorded shifts as a line lead sees them: on a screen of 1280 pixels in light and dark, and on A4.
# Needs chromium, and pdftoppm and pdfinfo of poppler-utils; with python3-pil the pictures become smaller.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
shifts=$here/../../tests/shifts
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

browse() { "$chromium" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$scratch/profile" "$@" 2>/dev/null; }

# Cuts the empty end off and takes 256 colours: a page of text needs no more.
shrink() {
  python3 - "$1" "${2:-cut}" <<'PYTHON' || printf 'left as it is: %s\n' "$1"
import sys
from PIL import Image, ImageChops
image = Image.open(sys.argv[1]).convert("RGB")
if sys.argv[2] == "cut":
    ground = Image.new("RGB", image.size, image.getpixel((image.width - 1, image.height - 1)))
    bottom = ImageChops.difference(image, ground).getbbox()[3]
    image = image.crop((0, 0, image.width, min(bottom + 24, image.height)))
image.quantize(256, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)
PYTHON
}

for shift in clocks-set-back outage rework; do
  page=file://$(realpath "$shifts/$shift/report.html")
  browse --window-size=1280,4200 --screenshot="$here/$shift.png" "$page"
  shrink "$here/$shift.png"
  browse --no-pdf-header-footer --print-to-pdf="$scratch/$shift.pdf" "$page"
  rm -f "$here/$shift"-a4-*.png
  pdftoppm -r 90 -png "$scratch/$shift.pdf" "$here/$shift-a4"
  for sheet in "$here/$shift"-a4-*.png; do shrink "$sheet" whole; done
  printf '%s: %s sheets of A4\n' "$shift" "$(pdfinfo "$scratch/$shift.pdf" | sed -n 's/^Pages: *//p')"
done
browse --window-size=1280,4200 --blink-settings=preferredColorScheme=0 --screenshot="$here/outage-dark.png" \
  "file://$(realpath "$shifts/outage/report.html")"
shrink "$here/outage-dark.png"
du -h "$here"/*.png
