"""Files that nobody vouches for: opened without stalling, sized before they are read, told safely.

    regular    the bytes or the text of a regular file; a FIFO or a device is an error
    arrays     the arrays of a .npz
    room       what reading would take, against what there is
    strict     JSON: one value, no key twice, no number beyond all measure, not too deep
    telling    names from files as they may be printed, and the first few of many

Beside arrays only the standard library is imported, so that flags can be read before
anything heavy.
"""
