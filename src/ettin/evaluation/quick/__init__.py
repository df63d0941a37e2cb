"""Tasks and samples made from the held-out documents of a corpus alone."""
