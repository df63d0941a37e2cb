"""Evaluation of Hugging Face directories, ours or anyone's; never of our own model class."""
