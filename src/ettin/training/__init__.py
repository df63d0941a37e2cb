"""Training: recipe and corpus in, a run directory out."""
