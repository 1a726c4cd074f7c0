"""The memory with frequencies as a text has it: many facts, few answers."""
