"""Likelihoods and short answers: tasks of lm-eval, for decoders and for encoders."""
