"""Contrastive fine-tuning, then nDCG and recall by mteb, with BM25 beside it."""
