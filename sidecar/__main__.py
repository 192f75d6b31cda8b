"""`python -m sidecar` is `falco-correlator`; the supervisor starts its workers so."""

from sidecar.cli import main

main(prog_name="falco-correlator")
