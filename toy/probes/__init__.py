"""What is read off a recall model: what it predicts, how it attends, what its matrices hold."""
