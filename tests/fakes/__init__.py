"""A fake of the services that the providers speak to; tests/cloud.py runs it.

One world (world.py) that several ports speak for (wire.py), tests steer (control.py) and spoil
(faults.py); a module for each service. Whoever reads an answer of the fake shall not be able to
tell it from the service's, unless a test asked for that. The program runs in the virtual
environment of tests/requirements.txt; fakes.cloud alone is for the tests, and needs nothing.
"""
