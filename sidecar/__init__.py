"""Falco Correlator: turns single Falco alerts of one execution context into one incident."""

__version__ = "0.1.0"
