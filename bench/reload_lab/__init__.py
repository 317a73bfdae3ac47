"""The parts of `bench/reload.py`: what a change of configuration costs traffic."""
