#!/usr/bin/python3
"""Draws a curve, and faintly those that were made before it beside it.

    plot.py CURVE.dat… [--out PLOT.png] [--before 20]

A curve is text with columns, as integrate.py writes it: 2θ first, intensity third. Of several files the first .dat is
taken. Curves before it are `*.dat` in its folder and in the folders next to that one. Without --out the plot goes to the job's
results folder, or else to this folder, under the curve's name.

Exit status: 0 done, 1 the curve cannot be read (one line on stderr says why), 2 wrong usage.
"""

import argparse
import glob
import os
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np


def main():
    options = parse_arguments()
    curve = next((one for one in options.curves if one.endswith(".dat")), options.curves[0])
    newest = read(curve)
    before = [read(one) for one in earlier(curve, options.before)]
    name = os.path.splitext(os.path.basename(curve))[0]
    out = options.out or os.path.join(os.environ.get("MENTO_RESULTS_DIR", "."), f"{name}.png")
    draw(name, newest, before, out)
    print(f"{out}: {curve} and {len(before)} before it")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Draws a curve, and those before it.")
    parser.add_argument("curves", nargs="+", metavar="CURVE.dat")
    parser.add_argument("--out", metavar="PLOT.png")
    parser.add_argument("--before", default=20, type=int, help="at most so many; default: %(default)s")
    return parser.parse_args()


def earlier(curve, count):
    """The newest of those that are older, the oldest first."""
    made = os.path.getmtime(curve)
    folder = os.path.dirname(os.path.abspath(curve))
    beside = set(glob.glob(f"{glob.escape(folder)}/*.dat"))
    beside |= set(glob.glob(f"{glob.escape(os.path.dirname(folder))}/*/*.dat"))
    beside.discard(os.path.abspath(curve))
    older = [(os.path.getmtime(one), one) for one in beside]
    newest_first = sorted((one for one in older if one[0] <= made), reverse=True)
    return [path for _, path in newest_first[:count]][::-1]


def read(path):
    columns = np.loadtxt(path, ndmin=2)
    if columns.shape[1] < 3:
        raise ValueError(f"{path} has fewer than three columns")
    return columns[:, 0], columns[:, 2]


def draw(title, newest, before, out):
    with tempfile.TemporaryDirectory(prefix="matplotlib-") as config:
        os.environ.setdefault("MPLCONFIGDIR", config)
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(title=title, xlabel="scattering angle 2θ (degrees)", ylabel="intensity")
        for x, y in before:
            axes.plot(x, y, linewidth=0.5, color="0.75")
        axes.plot(*newest, linewidth=1.2)
        axes.margins(x=0)
        # Nobody sees the file under its name before it is complete.
        figure.savefig(out + ".tmp", format="png")
        os.replace(out + ".tmp", out)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit("plot.py: " + " ".join(str(error).split()))
