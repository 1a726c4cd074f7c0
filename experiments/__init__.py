"""One absl program per question; each module's docstring opens with its exact command."""
