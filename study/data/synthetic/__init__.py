"""Invented catchments in the folder layout of CAMELS-US.

Demo, tests and notebooks read them with the readers of the real data. The chain is: `basins`
draws landscapes and climates, `weather` turns a climate into daily series, `hydrology` turns the
weather into snow and discharge, `record` puts the measurement errors on top, `attributes`
computes the published tables and `files` writes everything down.
"""

from study.data.synthetic.files import synthesize

__all__ = ["synthesize"]
