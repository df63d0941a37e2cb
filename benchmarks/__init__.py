"""Measurements: programs that time what we do against what a user would take instead."""
