"""Fine-tuning on GLUE-like tasks, from the pre-trained head of both kinds."""
