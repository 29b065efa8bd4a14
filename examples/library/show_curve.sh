#!/bin/bash
# Draws a curve, and shows it where there is a screen.
#   show_curve.sh CURVE.dat
set -eu
plot=${MENTO_RESULTS_DIR:-.}/$(basename "$1" .dat).png
/usr/bin/python3 "$(dirname "$0")/../pipelines/powder-plot/plot.py" "$1" --out "$plot"
if [ -n "${DISPLAY-}" ] && command -v xdg-open > /dev/null; then xdg-open "$plot"; fi
