"""How answers are marked: pure functions of texts and of log-probabilities, on the host."""
