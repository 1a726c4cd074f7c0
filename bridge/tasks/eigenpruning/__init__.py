"""The tasks of eigenpruning (arXiv 2404.03147), after the paper: its code has no licence."""
