"""What is read off a recall model: what it predicts, where it looks, what its matrices hold."""
