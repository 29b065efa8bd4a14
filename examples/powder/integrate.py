#!/usr/bin/python3
"""Azimuthal integration of an Eiger scan with pyFAI: many powder rings in, one curve out.

    integrate.py MASTER.h5 --out DIR [--geometry FILE.poni] [--points 800]

All frames of the scan are averaged. DIR gets `<stem>.dat` and `<stem>.png`, where <stem> is the master file's name
without `.h5`; each appears under its name only when it is complete. The columns of the .dat are the scattering angle 2θ
in degrees, the momentum transfer q in 1/nm, the intensity in counts per pixel and frame, and its standard deviation.

Exit status: 0 done, 1 the scan or the geometry cannot be used (one line on stderr says why), 2 wrong usage.
"""

import argparse
import os
import sys
import tempfile
import time

# All of this is to be set before the libraries are imported. A job may have one core, and no home directory.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("SILX_OPENCL", "0")
os.environ.setdefault("PYFAI_OPENCL", "0")
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")  # the scan may lie on a file system without locks

import h5py
import numpy as np

METRES = {"m": 1, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "angstrom": 1e-10, "a": 1e-10}


class Unusable(Exception):
    """The input cannot be used; the text says why."""


def main():
    options = parse_arguments()
    started = time.monotonic()
    total, mask, frames, instrument = read_scan(options.master)
    geometry = read_poni(options.geometry) if options.geometry else geometry_of(instrument, options.master)
    curve = integrate(geometry, total, mask, frames, options.points)
    title = f"{options.master}, {frames} frame(s), wavelength {geometry.wavelength * 1e10:.6g} angstrom"

    os.makedirs(options.out, exist_ok=True)
    stem = os.path.splitext(os.path.basename(options.master))[0]
    target = os.path.join(options.out, stem)
    write(f"{target}.dat", lambda path: save_table(path, curve, geometry.wavelength, title))
    write(f"{target}.png", lambda path: save_plot(path, curve, stem))

    print(
        f"{options.master}: {frames} frame(s) of {total.shape[1]}x{total.shape[0]} pixels, "
        f"{mask.mean():.1%} of them masked, integrated to {options.points} points "
        f"in {time.monotonic() - started:.1f} s: {target}.dat {target}.png"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description="Azimuthal integration of an Eiger scan.")
    parser.add_argument("master", metavar="MASTER.h5", help="the scan's master file")
    parser.add_argument("--out", required=True, metavar="DIR", help="where results go; made if it is not there")
    parser.add_argument("--geometry", metavar="FILE.poni", help="pyFAI's calibration; default: from the master file")
    parser.add_argument("--points", default=800, type=points, help="of the curve; default: %(default)s")
    return parser.parse_args()


def points(text):
    value = int(text)
    if not 2 <= value <= 100_000:
        raise argparse.ArgumentTypeError("must be between 2 and 100000")
    return value


def read_scan(master):
    """The sum of all frames, the pixels to leave out, how many frames there are, and the instrument's metadata."""
    try:
        with h5py.File(master, "r") as file:
            instrument = read_metadata(file, master)
            total, mask, frames = sum_frames(file, instrument, master)
    except FileNotFoundError:
        raise Unusable(f"{master}: there is no such file") from None
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # what h5py raises for files cut off or damaged
        raise Unusable(f"{master}: cannot be read: {error}") from None

    promised = instrument.get("detectorSpecific/nimages", frames) * instrument.get("detectorSpecific/ntrigger", 1)
    if frames < promised:
        raise Unusable(f"{master}: has {frames} of {promised:.0f} frames, the rest is not there")
    if mask.all():
        raise Unusable(f"{master}: not one pixel has a value")
    return total, mask, frames, instrument


def read_metadata(file, master):
    """The numbers under /entry/instrument/detector and the wavelength; lengths in metres, all else as it stands."""
    if "entry/instrument/detector" not in file:
        raise Unusable(f"{master}: is not an Eiger master file: /entry/instrument/detector is missing")
    found = {}

    def collect(name, node):
        if isinstance(node, h5py.Dataset) and node.size == 1 and node.dtype.kind in "iuf":
            found[name] = node[()].item() * METRES.get(units_of(node), 1)

    file["entry/instrument/detector"].visititems(collect)
    wavelength = file.get("entry/instrument/beam/incident_wavelength")
    if wavelength is not None:
        collect("wavelength", wavelength)
    return found


def units_of(dataset):
    units = dataset.attrs.get("units", b"")
    return (units.decode() if isinstance(units, bytes) else str(units)).lower()


def sum_frames(file, instrument, master):
    """Frame after frame, so that a scan of any length fits into memory."""
    data = file.get("entry/data")
    names = sorted(name for name in data or () if name.startswith("data_"))
    if not names:
        raise Unusable(f"{master}: is not an Eiger master file: /entry/data/data_000001 is missing")

    pixel_mask = file.get("entry/instrument/detector/detectorSpecific/pixel_mask")
    cutoff = instrument.get("detectorSpecific/countrate_correction_count_cutoff")
    total = mask = None
    frames = 0
    for name in names:
        dataset = open_data(data, name, master)
        # The detector writes the greatest number for a pixel without a value, and cannot count beyond the cutoff.
        greatest = np.iinfo(dataset.dtype).max
        limit = min(greatest, cutoff or greatest)
        for number in range(len(dataset)):
            frame = dataset[number]
            if total is None:
                total = np.zeros(frame.shape)
                mask = np.zeros(frame.shape, bool) if pixel_mask is None else pixel_mask[()] != 0
            if not frame.shape == total.shape == mask.shape:
                raise Unusable(f"{master}: the frames and the pixel mask differ in size")
            mask |= frame >= limit
            total += frame
            frames += 1
    if not frames:
        raise Unusable(f"{master}: has no frames")
    return total, mask, frames


def open_data(data, name, master):
    """The frames of one data file, to which the master only links."""
    link = data.get(name, getlink=True)
    where = f"/entry/data/{name}"
    if isinstance(link, h5py.ExternalLink):
        where = os.path.join(os.path.dirname(master), link.filename)
        if not os.path.exists(where):
            raise Unusable(f"{master}: its data file {where} is missing")
    try:
        dataset = data[name]
    except (KeyError, OSError):
        raise Unusable(f"{master}: its data file {where} is cut off or not HDF5") from None
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3 or dataset.dtype.kind != "u":
        raise Unusable(f"{master}: {where} does not hold frames of unsigned integers")
    filters = dataset.id.get_create_plist()
    for code in (filters.get_filter(i)[0] for i in range(filters.get_nfilters())):
        try:
            if not h5py.h5z.filter_avail(code):
                import hdf5plugin  # noqa: F401 real Eigers compress with bitshuffle or LZ4, which HDF5 does not know
        except ImportError:
            raise Unusable(
                f"{master}: {where} is compressed with HDF5 filter {code}, which is not installed here: "
                "install hdf5plugin, or Debian's packages bitshuffle and hdf5-filter-plugin"
            ) from None
    return dataset


def geometry_of(instrument, master):
    """The geometry in the master file: a detector upright on the beam."""
    from pyFAI.azimuthalIntegrator import AzimuthalIntegrator

    needed = ("detector_distance", "wavelength", "x_pixel_size", "y_pixel_size", "beam_center_x", "beam_center_y")
    missing = [name for name in needed if not instrument.get(name, 0) > 0]
    if missing:
        raise Unusable(f"{master}: has no {', '.join(missing)}: give a --geometry")
    distance, wavelength, x_pixel, y_pixel, x_center, y_center = (instrument[name] for name in needed)
    return AzimuthalIntegrator(
        dist=distance,
        poni1=y_center * y_pixel,
        poni2=x_center * x_pixel,
        pixel1=y_pixel,
        pixel2=x_pixel,
        wavelength=wavelength,
    )


def read_poni(path):
    from pyFAI.azimuthalIntegrator import AzimuthalIntegrator

    if not os.path.isfile(path):
        raise Unusable(f"{path}: there is no such file")
    try:
        geometry = AzimuthalIntegrator.sload(path)
    except Exception as error:  # pyFAI raises whatever its parsing happens to meet
        raise Unusable(f"{path}: is not a .poni file: {error}") from None
    if not (geometry.wavelength and geometry.pixel1 and geometry.pixel2):
        raise Unusable(f"{path}: is not a .poni file with a wavelength and the detector's pixel sizes")
    return geometry


def integrate(geometry, total, mask, frames, points):
    shape = geometry.detector.shape
    if shape and tuple(shape) != total.shape:
        have = f"{total.shape[1]}x{total.shape[0]}"
        raise Unusable(f"the geometry is for {shape[1]}x{shape[0]} pixels, the scan has {have}")
    return geometry.integrate1d(
        total,
        points,
        mask=mask,
        unit="2th_deg",
        error_model="poisson",
        normalization_factor=frames,
        method=("bbox", "histogram", "cython"),  # the fastest way to a smooth curve, if it is used only once
    )


def write(path, save):
    """Nobody sees the file under its name before it is complete."""
    save(path + ".tmp")
    os.replace(path + ".tmp", path)


def save_table(path, curve, wavelength, title):
    q = 4e-9 * np.pi / wavelength * np.sin(np.radians(curve.radial) / 2)
    np.savetxt(
        path,
        np.column_stack([curve.radial, q, curve.intensity, curve.sigma]),
        fmt="%.6g",
        header=f"{title}\n2theta_deg q_nm^-1 intensity sigma",
        encoding="utf-8",
    )


def save_plot(path, curve, title):
    with tempfile.TemporaryDirectory(prefix="matplotlib-") as config:
        os.environ.setdefault("MPLCONFIGDIR", config)
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(
            title=title, xlabel="scattering angle 2θ (degrees)", ylabel="intensity (counts per pixel and frame)"
        )
        axes.plot(curve.radial, curve.intensity, linewidth=1)
        axes.margins(x=0)
        axes.grid(alpha=0.3)
        figure.savefig(path, format="png")


if __name__ == "__main__":
    try:
        main()
    except (Unusable, OSError) as error:
        sys.exit("integrate.py: " + " ".join(str(error).split()))  # on one line
