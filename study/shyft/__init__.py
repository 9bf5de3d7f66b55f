"""Shyft, a distributed hydrological model (Burkhart et al. 2021, doi 10.5194/gmd-14-821-2021), run
lumped on every basin as a source of features.

Shyft lives in a Python environment of its own and runs as a process; only `sidecar.py` imports it.
"""
