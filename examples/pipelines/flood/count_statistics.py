#!/usr/bin/python3
"""Mean, least and greatest of the numbers in a small text file.

    count_statistics.py FILE.txt --out STATISTICS.json

Exit status: 0 done, 1 the file has no numbers (one line on stderr says why), 2 wrong usage.
"""

import argparse
import json
import os
import sys


def main():
    parser = argparse.ArgumentParser(description="Mean, least and greatest of the numbers in a text file.")
    parser.add_argument("file", metavar="FILE.txt")
    parser.add_argument("--out", required=True, metavar="STATISTICS.json")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as file:
        numbers = [float(word) for word in file.read().split()]
    if not numbers:
        raise ValueError(f"{options.file} has no numbers")
    found = {
        "count": len(numbers),
        "mean": sum(numbers) / len(numbers),
        "min": min(numbers),
        "max": max(numbers),
    }
    with open(options.out + ".tmp", "w", encoding="utf-8") as file:
        json.dump(found, file)
    os.replace(options.out + ".tmp", options.out)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit("count_statistics.py: " + " ".join(str(error).split()))
