"""Facts and stories of the first paper (arXiv 2406.03068), from users' files."""
