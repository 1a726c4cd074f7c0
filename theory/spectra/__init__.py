"""What can be read from singular values alone."""
