"""Whole engines compared side by side: rows, rounds, targets, chart."""
