"""The language tasks of LASER (arXiv 2312.13558), asked as its public code asks them.

Rows keep the order of the source, because the published protocol takes the first 20 % for
choosing; groups (item) tell an honest split what belongs together.
"""
