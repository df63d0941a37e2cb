"""ettin: train, export and compare pairs of encoders and decoders that share everything else."""
