"""What tests/run.py is made of: commands, TAP, suites, sanitizers, coverage, the report."""
