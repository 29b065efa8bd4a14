#!/usr/bin/python3
"""Position and width of a curve's strongest ring, by a Gaussian on a flat background.

    fit.py CURVE.dat --out FIT.json

The curve is what integrate.py writes: 2θ in degrees, q, intensity, its standard deviation. FIT.json gets `position`,
`sigma` and `height`, each with its standard error, and `chi2` per degree of freedom.

Exit status: 0 done, 1 there is nothing to fit (one line on stderr says why), 2 wrong usage.
"""

import argparse
import json
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import curve_fit

WINDOW = 15  # points on each side of the maximum


def main():
    parser = argparse.ArgumentParser(description="Fits a curve's strongest ring.")
    parser.add_argument("curve", metavar="CURVE.dat")
    parser.add_argument("--out", required=True, metavar="FIT.json")
    options = parser.parse_args()
    fit = fit_strongest(*np.loadtxt(options.curve, ndmin=2, unpack=True)[[0, 2, 3]])
    with open(options.out + ".tmp", "w", encoding="utf-8") as file:
        json.dump(fit, file, indent=1)
    os.replace(options.out + ".tmp", options.out)
    print(f"ring at {fit['position'][0]:.4f} ± {fit['position'][1]:.4f} degrees")


def ring(angle, position, sigma, height, background):
    return background + height * np.exp(-0.5 * ((angle - position) / sigma) ** 2)


def fit_strongest(angle, intensity, error):
    top = int(np.argmax(intensity))
    window = slice(max(top - WINDOW, 0), top + WINDOW + 1)
    angle, intensity, error = angle[window], intensity[window], error[window]
    good = (error > 0) & np.isfinite(intensity)
    if good.sum() < 8:
        raise ValueError("too few points with an error around the maximum")
    start = [angle[intensity.argmax()], np.ptp(angle) / 10, np.ptp(intensity), intensity.min()]
    found, covariance = curve_fit(ring, angle[good], intensity[good], start, error[good], absolute_sigma=True)
    errors = np.sqrt(np.diag(covariance))
    found[1] = abs(found[1])
    residuals = (intensity - ring(angle, *found))[good] / error[good]
    names = ("position", "sigma", "height", "background")
    fit = {name: [float(value), float(its)] for name, value, its in zip(names, found, errors)}
    return {**fit, "chi2": float((residuals**2).sum() / (good.sum() - len(names)))}


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        sys.exit("fit.py: " + " ".join(str(error).split()))
