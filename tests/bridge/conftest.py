"""Lets the tests here share make.py however pytest was started."""

import pathlib
import sys

ROOT = str(pathlib.Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)
