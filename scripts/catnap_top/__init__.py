"""scripts/top: samples of a running server (sample.py), tables of rates (views.py), and two ways to show them (batch.py, screen.py). Standard library only."""
