#!/usr/bin/python3
"""A detector for a desk: writes one simulated LaB6 powder scan as an Eiger file writer would.

    detector.py --out DIR --scan N [--frames 1] [--size 512] [--seed S]

DIR gets `scan_NNNN_data_000001.h5` and then `scan_NNNN_master.h5`; each appears under its name only when it is complete.
One JSON line on stdout tells what was written: {"master": path, "files": [{"path": …, "bytes": …}, …]}.

Units: lengths in metres, wavelength in ångström, beam centre in pixels from the outer corner of the first pixel.
"""

import argparse
import json
import os
import sys
import time

# One thread is enough for this, and starting more costs more than it gains. To be set before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import h5py
import numpy as np

DISTANCE = 0.1  # m, sample to detector
WAVELENGTH = 0.2073  # Å: 59.8 keV
PIXEL_SIZE = 75e-6  # m
BEAM_CENTER = (0.515, 0.485)  # of the detector's width and height
EXPOSURE = 0.1  # s
GAP = 12  # pixels between two modules
NO_DATA = 2**32 - 1  # what an Eiger writes for a pixel without a value

LATTICE = 4.156826  # Å, LaB6 (NIST SRM 660c)
# h² + k² + l² of each ring, and roughly how bright it is beside the brightest.
RINGS = {1: 60, 2: 100, 3: 45, 4: 25, 5: 50, 6: 30, 8: 10, 9: 25, 10: 20, 11: 12, 12: 2, 13: 8, 14: 15}
RING_WIDTH = 0.025  # degrees of 2θ, standard deviation
PEAK = 2.0  # counts of a ring for each unit of its brightness


def main():
    options = parse_arguments()
    os.makedirs(options.out, exist_ok=True)
    stem = os.path.join(os.path.abspath(options.out), f"scan_{options.scan:04d}")
    data, master = f"{stem}_data_000001.h5", f"{stem}_master.h5"

    mask = pixel_mask(options.size)
    frames = simulate(mask, options.frames, options.scan if options.seed is None else options.seed)
    write(data, lambda file: fill_data(file, frames))
    write(master, lambda file: fill_master(file, os.path.basename(data), mask, options.frames))

    files = [{"path": path, "bytes": os.path.getsize(path)} for path in (data, master)]
    print(json.dumps({"master": master, "files": files}))


def parse_arguments():
    parser = argparse.ArgumentParser(description="Writes one simulated powder scan in Eiger layout.")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the files go; made if it is not there")
    parser.add_argument("--scan", required=True, type=positive, metavar="N", help="number of the scan, in the names")
    parser.add_argument("--frames", default=1, type=positive, help="default: %(default)s")
    parser.add_argument("--size", default=512, type=positive, help="pixels on each side; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the noise; default: the scan's number")
    return parser.parse_args()


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def pixel_mask(size):
    """Which pixels give no value, in an Eiger's code: 0 good, 1 gap between modules, 2 dead."""
    mask = np.zeros((size, size), np.uint32)
    dead = np.random.default_rng(seed=0).integers(0, size, (2, 20))
    mask[dead[0], dead[1]] = 2
    gap = slice(size * 2 // 3, size * 2 // 3 + GAP)
    mask[gap, :] = 1
    mask[:, gap] = 1
    return mask


def simulate(mask, count, seed):
    """`count` frames of photon counts, uint32 (frames, y, x), with Poisson noise."""
    size = len(mask)
    x, y = ((np.arange(size) + 0.5 - center * size) * PIXEL_SIZE for center in BEAM_CENTER)
    two_theta = np.arctan(np.hypot(x, y[:, None]) / DISTANCE)  # radians

    angle = np.linspace(0, two_theta.max(), 20_000)
    profile = 3 + 12 * np.exp(-np.degrees(angle) / 4)  # the background: air scattering
    for order, brightness in RINGS.items():
        ring = 2 * np.arcsin(WAVELENGTH * np.sqrt(order) / (2 * LATTICE))  # Bragg's law
        profile += PEAK * brightness * np.exp(-0.5 * (np.degrees(angle - ring) / RING_WIDTH) ** 2)
    # A pixel away from the beam is farther off and seen at a slant.
    expected = np.interp(two_theta, angle, profile * np.cos(angle) ** 3)

    frames = np.random.default_rng(seed).poisson(expected, (count, size, size)).astype(np.uint32)
    frames[:, mask != 0] = NO_DATA
    return frames


def write(path, fill):
    """Nobody sees the file under its name before it is complete."""
    with h5py.File(path + ".tmp", "w") as file:
        fill(file)
    os.replace(path + ".tmp", path)


def fill_data(file, frames):
    group(group(file, "entry", "NXentry"), "data", "NXdata").create_dataset(
        "data", data=frames, chunks=(1, *frames.shape[1:]), shuffle=True, compression="gzip", compression_opts=1
    )
    file["entry/data/data"].attrs.update(image_nr_low=1, image_nr_high=len(frames))


def fill_master(file, data_name, mask, count):
    entry = group(file, "entry", "NXentry")
    group(entry, "data", "NXdata")["data_000001"] = h5py.ExternalLink(data_name, "/entry/data/data")
    instrument = group(entry, "instrument", "NXinstrument")
    put(group(instrument, "beam", "NXbeam"), "incident_wavelength", WAVELENGTH, "angstrom")

    detector = group(instrument, "detector", "NXdetector")
    put(detector, "description", np.bytes_("Simulated Eiger2 CdTe"))
    put(detector, "detector_number", np.bytes_("E-00-0000"))
    put(detector, "sensor_material", np.bytes_("CdTe"))
    put(detector, "sensor_thickness", 750e-6, "m")
    put(detector, "detector_distance", DISTANCE, "m")
    put(detector, "x_pixel_size", PIXEL_SIZE, "m")
    put(detector, "y_pixel_size", PIXEL_SIZE, "m")
    put(detector, "beam_center_x", BEAM_CENTER[0] * len(mask), "pixel")
    put(detector, "beam_center_y", BEAM_CENTER[1] * len(mask), "pixel")
    put(detector, "count_time", EXPOSURE, "s")
    put(detector, "frame_time", EXPOSURE, "s")
    put(detector, "bit_depth_image", 32)

    specific = group(detector, "detectorSpecific", "NXcollection")
    put(specific, "data_collection_date", np.bytes_(time.strftime("%Y-%m-%dT%H:%M:%S%z")))
    put(specific, "nimages", count)
    put(specific, "ntrigger", 1)
    put(specific, "x_pixels_in_detector", mask.shape[1])
    put(specific, "y_pixels_in_detector", mask.shape[0])
    put(specific, "countrate_correction_count_cutoff", 200_000)
    specific.create_dataset("pixel_mask", data=mask, compression="gzip", compression_opts=1)


def group(parent, name, nexus_class):
    made = parent.create_group(name)
    made.attrs["NX_class"] = np.bytes_(nexus_class)
    return made


def put(parent, name, value, units=None):
    parent[name] = value
    if units:
        parent[name].attrs["units"] = np.bytes_(units)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"detector.py: {error}")
