"""LASER's names against the table of its source (laser/llama2_laser.py and its siblings)."""

import dataclasses

import pytest

from truncated_weights import bridge
from truncated_weights.bridge.families import laser

LLAMA = bridge.Config(
    vocab_size=8, num_layers=2, d_model=16, num_heads=2, d_ff=8, family="llama", gated=True
)
GPTJ = dataclasses.replace(LLAMA, family="gptj", gated=False)
PHI = dataclasses.replace(GPTJ, family="phi")


@pytest.mark.parametrize(
    ("config", "theirs", "ours"),
    [
        (LLAMA, "1.laser:fc_in@0.1", "1.fc_gate@0.1"),
        (LLAMA, "-1.laser:fc_up@-0.1", "-1.fc_in@-0.1"),
        (LLAMA, "1.laser:fc_out@0.5:0.7+0.laser:mlp@0", "1.fc_out@0.5:0.7+0.mlp@0"),
        (GPTJ, "1.laser:fc_in@0.1 + 0.laser:q_proj@0.2", "1.fc_in@0.1+0.q_proj@0.2"),
        (PHI, "0.laser:fc_in@0.1", "0.fc_in@0.1"),
        (LLAMA, "1.fc_in@0.1+0.fc_gate@0", "1.fc_in@0.1+0.fc_gate@0"),
    ],
)
def test_names(config, theirs, ours):
    assert laser.translate(theirs, config) == ours


@pytest.mark.parametrize(
    ("config", "text", "complaint"),
    [
        (GPTJ, "0.laser:fc_up@0.1", "laser:fc_up is no matrix of a gptj; known are q_proj"),
        (PHI, "0.laser:q_proj@0.1", "laser:q_proj is no matrix of a phi; known are out_proj"),
        (LLAMA, "0.laser:fc_gate@0.1", "laser:fc_gate is no matrix of a llama"),
        (LLAMA, "0.laser:fc_in@0.1+1.fc_out@0", "mixes laser: names with ours"),
    ],
)
def test_what_laser_does_not_say(config, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        laser.translate(text, config)
