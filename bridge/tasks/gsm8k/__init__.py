"""GSM8K: word problems with worked steps, without examples, with worked ones, or plain."""
