"""The speed matrix: what is measured (cases.py), how (measure.py), how it is told (report.py, svg.py). Run by tests/bench/run."""
