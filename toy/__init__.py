"""The small world, where the truth is known: languages, recall task, models, training, probes."""
