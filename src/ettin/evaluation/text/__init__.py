"""Perplexity and bits per byte on held-out documents, per source."""
